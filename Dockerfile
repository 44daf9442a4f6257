# Shapewright in a container, for CPUs or for NVIDIA's GPUs:
#
#   docker build -t shapewright .
#   docker build -t shapewright:cuda --build-arg DEVICE=cuda .
#   docker run --rm -v "$PWD/out:/out" shapewright run studies/torsion.yaml --out /out/torsion
#
# Packages come from wherever pip finds them; --secret id=pip,src=pip.conf tells it. torch's usual wheel brings CUDA's
# libraries, 3 GB that a CPU has no use for: --build-arg CPU_WHEELS=URL names an index of wheels without them.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm
ARG DEVICE=cpu
ARG CPU_WHEELS=""

# A C compiler for finite-element forms, and the system libraries of CAD, meshes and pictures (app/doctor/machine.py).
RUN case "$DEVICE" in cpu | cuda) ;; *) echo "DEVICE is '$DEVICE'; allowed are cpu and cuda" >&2; exit 1 ;; esac \
    && apt-get update \
    && apt-get install --no-install-recommends -y gcc libc6-dev libglu1-mesa libgl1 libegl1 libgl1-mesa-dri libx11-6 \
       libxrender1 libxcursor1 libxfixes3 libxext6 libxft2 libxinerama1 libfontconfig1 libexpat1 libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/shapewright
COPY . .
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    if [ "$DEVICE" = cpu ] && [ -n "$CPU_WHEELS" ]; then \
        PIP_INDEX_URL="$CPU_WHEELS" pip install --no-cache-dir -c constraints.txt torch; \
    fi \
    && pip install --no-cache-dir -c constraints.txt -e ".[dask,slurm,mpi]"

# Compiled forms are kept where any user may write.
ENV XDG_CACHE_HOME=/var/cache/shapewright
RUN mkdir -p "$XDG_CACHE_HOME" && chmod 1777 "$XDG_CACHE_HOME"
ENTRYPOINT ["shapewright"]
CMD ["--help"]
