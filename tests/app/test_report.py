"""The report says what the certificate says, in one file, and refuses a folder that is not whole."""

import base64
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from shutil import copytree

import matplotlib.image
import numpy as np
import pytest
import pyvista

from shapewright.app.report.report import ReportError, write_report
from tests.app.finished_study import bar, body


@dataclass
class Page(HTMLParser):
    """A report taken apart: visible text, rows of all tables, images, and every attribute that can point elsewhere."""

    text: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    alts: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    hidden: bool = False
    cell: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values[name] for name in ("href", "action", "data", "srcset", "poster") if name in values]
        if tag == "img":
            self.sources.append(values["src"])
            self.alts.append(values["alt"])
        if tag in ("style", "pre"):
            self.hidden = True
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True
        if tag == "small":  # the explanation below a name
            self.cell = False

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "pre"):
            self.hidden = False
        if tag in ("td", "th"):
            self.cell = False

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text.append(data)
        if self.cell:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The cells after ``name`` in the first row that starts with it."""
        return next(row[1:] for row in self.rows if row and row[0].strip() == name)


def page(path: Path) -> Page:
    parsed = Page()
    parsed.feed(path.read_text(encoding="utf-8"))
    return parsed


def words_of(parsed: Page) -> str:
    return " ".join(" ".join(parsed.text).split())


def value(text: str) -> float:
    """The number that a cell shows."""
    plain = text.translate(str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")).replace("×10", "e")
    number = float(re.search(r"[-+]?\d[\d.]*(e-?\d+)?", plain)[0])
    return number / 100 if "%" in text else number


@pytest.fixture(scope="module")
def finished_bar(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bar")
    bar(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def finished_body(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("body")
    body(folder)
    write_report(folder)
    return folder


@pytest.fixture
def changed(finished_bar: Path, tmp_path: Path):
    """A copy of the bar's folder, and a way to change its certificate."""
    folder = copytree(finished_bar, tmp_path / "out")
    (folder / "report.html").unlink()

    def change(name: str, edit) -> Path:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        edit(content)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return change


def certificate_of(folder: Path) -> dict:
    return json.loads((folder / "certificate.json").read_text(encoding="utf-8"))


def test_verdict_comes_first_in_one_sentence_with_the_key_numbers(finished_bar) -> None:
    text = words_of(page(finished_bar / "report.html"))
    sentence = (
        "Accepted : the torsional constant rises from 1.47608 m⁴ to 1.57066 m⁴ (+6.41 %) by finite elements;"
        " the surrogate's value is 0.12 % off, and the mesh uncertainty is 0.0036 %."
    )
    assert sentence in text.replace("\xa0", " ")
    assert text.index("Accepted :") < text.index("Mesh error")


def test_rejection_names_what_failed_and_every_reason(changed) -> None:
    def fail(certificate: dict) -> None:
        certificate |= {"accepted": False, "verdict": "Not accepted: constraint 'area equals', fields failed"}
        certificate["model"]["checks"][1] |= {"value": 0.0391234, "satisfied": False}
        certificate["model"] |= {"accepted": False, "verdict": "The surrogate that searched is poor."}
        certificate["design"] |= {"accepted": False, "verdict": "The design is not accepted."}
        certificate["constraints"][0] |= {"value": 3.2, "satisfied": False}
        certificate["reasons"] = ["fields: 0.0391 is not <= 0.01 (x < y)", "constraint 'area equals': 3.2"]

    folder = changed("certificate.json", fail)
    parsed = page(write_report(folder))
    text = words_of(parsed)
    said = "Not accepted : constraint 'area equals', fields failed, so do not rely on this shape; the torsional"
    assert said in text
    assert text.index(said) < text.index("The design is not accepted.") < text.index("The surrogate that searched is")
    assert all(reason in text for reason in certificate_of(folder)["reasons"])
    assert parsed.row("Fields") == ["3.91 %", "≤ 1 %", "2 %", "FAIL"]
    assert parsed.row("Constraints") == ["4 met", "all 5", "–", "FAIL"]
    assert parsed.row("Area [m²]")[6] == "FAIL"


@pytest.mark.parametrize("study", ["finished_bar", "finished_body"])
def test_file_is_self_contained(study, request) -> None:
    path = request.getfixturevalue(study) / "report.html"
    html, parsed = path.read_text(encoding="utf-8"), page(path)
    assert not re.search(r"https?://|@import|url\(|//[a-z]+\.", html)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert all(target.startswith("#") and target[1:] in parsed.ids for target in parsed.targets)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(parsed.alts)
    for source in parsed.sources:
        kind, _, content = source.partition(";base64,")
        image = base64.b64decode(content, validate=True)
        if kind == "data:image/svg+xml":
            addresses = re.findall(rb"(\S*?)[\"']https?://", image)
            assert set(addresses) <= {b"xmlns=", b"xmlns:xlink="}
            assert not re.search(rb"xlink:href=\"(?!#)", image)
        else:
            assert kind == "data:image/png"
            assert image.startswith(b"\x89PNG")
    assert path.stat().st_size < 3e6
    assert not list(path.parent.glob("*.part"))


def test_every_check_is_shown_with_value_limit_and_result(finished_bar) -> None:
    parsed = page(finished_bar / "report.html")
    certificate = certificate_of(finished_bar)
    defaults = {limit["name"]: limit["default"] for limit in certificate["limits"]}
    for check in (*certificate["design"]["checks"], *certificate["model"]["checks"]):
        found, required, default, result = parsed.row(check["name"][0].upper() + check["name"][1:])
        if check["name"] in defaults:
            assert value(default) == pytest.approx(defaults[check["name"]])
        assert result == "pass"
        if check["name"] == "CAD valid":
            assert (found, required) == ("yes", "yes")
            continue
        assert value(found) == pytest.approx(check["value"], rel=5e-3)
        assert value(required) == pytest.approx(check["limit"], rel=1e-12)
        assert required.startswith({"<=": "≤", ">=": "≥"}[check["relation"]])


def test_tables_show_the_numbers_of_the_certificate(finished_bar) -> None:
    parsed, certificate = page(finished_bar / "report.html"), certificate_of(finished_bar)
    for name, entry in certificate["parameters"].items():
        start, optimum, bounds, _, hit, slope, tolerance = parsed.row(f"{name} [m]")
        assert value(start) == pytest.approx(entry["initial"], rel=5e-4)
        assert value(optimum) == pytest.approx(entry["value"], rel=5e-5)
        assert [value(part) for part in bounds.split(" to ")] == pytest.approx(
            [entry["lower"], entry["upper"]], rel=5e-4
        )
        assert value(slope) == pytest.approx(entry["sensitivity"], rel=5e-3)
        assert value(tolerance.removeprefix("± ")) == pytest.approx(entry["tolerance"], rel=5e-2)
        assert hit == "within"
    levels = certificate["objective"]["fem_levels"]
    for level in levels:
        row = next(row for row in parsed.rows if row[1:2] == [str(level["dofs"])])
        assert value(row[2]) == pytest.approx(level["value"], rel=5e-7)
    assert value(parsed.row("extrapolated to 0")[1]) == pytest.approx(
        certificate["objective"]["fem_extrapolated"], rel=5e-7
    )
    assert "Observed order 2.01" in words_of(parsed)
    area = parsed.row("Area [m²]")
    assert area[:3] == ["3.17159", "3.141592653", "= 3.141592654"]  # the miss is seen in the value itself
    assert value(area[3]) == pytest.approx(np.pi - 3.14159265338, rel=0.05)
    assert value(area[4]) == pytest.approx(1e-6 * np.pi, rel=0.05)
    assert area[5:] == ["1×10⁻⁶", "pass", "+1.00"]
    assert parsed.row("Jacobian")[7] == "none"
    assert parsed.row("Volume, file read back") == ["1.570796\xa0m³"]
    held_out, here, limit = parsed.row("Field u")
    assert (held_out, here, limit) == ("0.28 %", "0.099 %", "≤ 1 %")


@pytest.mark.parametrize("study", ["finished_bar", "finished_body"])
def test_no_number_is_shown_with_meaningless_digits(study, request) -> None:
    text = words_of(page(request.getfixturevalue(study) / "report.html"))
    start = text.index("Allowed miss Tolerance")  # constrained values are written with digits that show the miss
    text = text[:start] + text[text.index("Miss: violation of") :]
    assert not re.findall(r"\d\.\d{8,}|\d\.\d+e-?\d+|\bnan\b|\bNone\b|\binf\b", text)


def test_body_in_a_channel_shows_every_component_and_its_domain(finished_body) -> None:
    parsed = page(finished_body / "report.html")
    pictures = [re.match(r"data:image/(png|svg)", source)[1] for source in parsed.sources]
    assert pictures.count("png") == 3 * 3 + 3 * 2
    assert pictures.count("svg") == 2 + 2
    text = words_of(parsed)
    assert "The part in its domain" in text
    assert "v: velocity of the fluid, component y" in text
    assert "front stops at its upper bound" in text
    assert "promises 0.4 % more" in text


def test_surrogate_and_fem_share_a_scale_and_the_difference_has_its_own(finished_body) -> None:
    parsed = page(finished_body / "report.html")
    assert "share one colour scale" in words_of(parsed)
    assert "symmetric about zero" in words_of(parsed)
    images = [
        base64.b64decode(source.partition(",")[2]) for source in parsed.sources if source.startswith("data:image/png")
    ]
    bars = []
    for image in images[:3]:
        pixels = matplotlib.image.imread(BytesIO(image))
        height = pixels.shape[0]
        bars.append(pixels[height - 110 :, :, :3])  # colour bar with its numbers
    np.testing.assert_array_equal(bars[0], bars[1])
    assert not np.array_equal(bars[1], bars[2])


def test_without_a_surrogate_it_says_so(tmp_path) -> None:
    bar(tmp_path, surrogate=False)
    parsed = page(write_report(tmp_path))
    text = words_of(parsed)
    assert "by finite elements; no surrogate was used, and the mesh uncertainty is 0.0036 %." in text
    assert "No surrogate was used: the optimizer worked on finite elements alone" in text
    assert "by the model that the optimizer worked on (finite elements on the moved mesh)" in text
    assert len([source for source in parsed.sources if source.startswith("data:image/png")]) == 2


def test_unobserved_order_is_said_with_its_reason(changed) -> None:
    note = "the finest values agree to rounding"
    folder = changed("certificate.json", lambda c: c["objective"].update(observed_order=None, extrapolation=note))
    text = words_of(page(write_report(folder)))
    assert f"No order observed: {note}." in text
    assert f"No order of mesh convergence was observed: {note}." in text


def test_grid_convergence_index_and_a_degenerate_order_are_said(changed) -> None:
    note = "Richardson extrapolation of the three finest; the order is held down by a corner, a tip or a jump"
    folder = changed("certificate.json", lambda c: c["objective"].update(observed_order=1.1, extrapolation=note))
    text = words_of(page(write_report(folder)))
    assert "Grid-convergence index (Roache): the limit is expected within ± 0.0045 % of it." in text
    assert f"Observed order 1.10: {note}." in text


def test_the_true_maximum_stands_beside_a_smooth_one(changed) -> None:
    peak = {"on": "hole", "maximum": 3.0361, "minimum": 3.0150, "mean": 3.0278, "flatness": 0.0069}
    peak |= {"profile": [[0.0, 3.0361], [180.0, 3.0150], [359.0, 3.03]], "point": [1.0, 0.0]}
    peak |= {"at_least": 2.9, "at_most": 3.2}
    more = {"peak": peak, "peak_at_start": peak | {"maximum": 5.3}}
    folder = changed("certificate.json", lambda c: c["objective"].update(more))
    text = words_of(page(write_report(folder)))
    assert "along “hole” on the finest mesh: largest 3.0361, least 3.0150, mean 3.0278." in text
    assert "The difference between largest and least is 0.69 % of the mean." in text
    assert "At the start its largest is 5.3000." in text
    assert "The quantity around “hole”" in text
    assert "imply that the largest is between 2.9000 and 3.2000." in text


def test_load_cases_stand_in_a_table_with_the_true_worst_beside_the_smooth_one(changed) -> None:
    def add(certificate) -> None:
        objective = certificate["objective"]
        keys = ("fem", "fem_levels", "fem_extrapolated", "observed_order", "discretization_error")
        case = {key: objective[key] for key in (*keys, "grid_convergence_index", "extrapolation")} | {"weight": None}
        worst = {"case": "wind_gust", "value": 3.25, "smooth_off": 0.0125, "sharpness": 50.0}
        worst["smooth_off_at_most"] = 0.045
        each = {"down": case, "wind_gust": case}
        objective["cases"] = {"functional": "compliance", "each": each, "worst": worst}

    found = page(write_report(changed("certificate.json", add)))
    text = words_of(found)
    assert {"down", "wind_gust"} <= {row[0].split(" ")[0] for row in found.rows if row}
    assert "The worst case is wind_gust: the true minimum is 3.25000, the smooth one that was sought lies" in text
    assert "0.0125 above it (at most 0.0450 by its sharpness, 50" in text
    without = changed("certificate.json", lambda c: c["objective"].update(cases=None))
    assert "Load cases" not in words_of(page(write_report(without)))


def test_novelty_is_told_with_its_correlation_with_the_error(changed) -> None:
    folder = changed("certificate.json", lambda c: None)
    text = words_of(page(write_report(folder)))
    assert "from the training designs of the surrogate: 0.988. Among designs" in text
    assert "the median is 1.12 and the 95th percentile 1.46" in text
    assert "On 128 held-out designs the rank correlation of this distance with the true error is 0.80 (fields)" in text
    assert "and 0.60 (design gradient)" in text
    unknown = {"correlation": None}
    text = words_of(page(write_report(changed("certificate.json", lambda c: c["novelty"].update(unknown)))))
    assert "The model card does not state how this distance correlates with the error" in text


def test_a_managed_study_shows_its_steps_and_what_was_learnt(changed) -> None:
    errors = {"field": {"u": 0.02}, "objective": 0.001, "gradient": 0.0123, "cosine": 0.999, "designs": 8}
    pair = {"before": errors, "after": errors | {"gradient": 0.0045}}
    learnt = {"designs": 4, "kept": True, "held_out": pair, "optimum": pair}
    changed("certificate.json", lambda c: c.update(infill=learnt))
    folder = changed("optimum.json", lambda o: o.update(fem_solves={"forward": 9, "adjoint": 9, "tangent": 0}))
    history = (folder / "history.csv").read_text(encoding="utf-8").splitlines()
    added = ["ratio,radius,accepted,kkt_residual,forward,adjoint"]
    added += [f"0.912,0.1,{int(k % 3 != 1)},0.00321,{k % 9 + 1},{k % 9 + 1}" for k in range(len(history) - 1)]
    (folder / "history.csv").write_text("\n".join(map(",".join, zip(history, added, strict=True))), encoding="utf-8")
    parsed = page(write_report(folder))
    text = words_of(parsed)
    assert "9 solutions and 9 adjoints led to the optimum" in text
    steps = [row for row in parsed.rows if row[1:3] == ["0.912", "0.100"] or row[2:4] == ["0.912", "0.100"]]
    assert len(steps) == 9
    assert sum("no" in row for row in steps) == 3
    assert "The tuned weights are kept for the next study. 4 solutions of the trust region were learnt" in text
    assert ["1.2 %", "0.45 %"] in [row[-2:] for row in parsed.rows]


def test_loosened_limits_are_named_in_the_verdict_and_beside_their_defaults(changed) -> None:
    def loosen(certificate: dict) -> None:
        certificate["verdict"] = "Accepted with loosened limits: validation.kkt_residual 0.5 (default 0.05)"
        for limit in certificate["limits"]:
            if limit["name"] in ("KKT residual", "constraint 'area equals'"):
                limit |= {"value": 0.5, "looser": True}

    parsed = page(write_report(changed("certificate.json", loosen)))
    text = words_of(parsed)
    assert "Accepted with loosened limits: validation.kkt_residual 0.5 (default 0.05); the torsional const" in text
    assert parsed.row("KKT residual")[2] == "0.05, loosened"
    assert "Area of the part; tolerance loosened, default 1×10⁻⁶" in text


def test_a_poor_surrogate_with_finite_elements_in_the_loop_is_said_and_decides_nothing(changed) -> None:
    poor = "The surrogate that searched is poor at the optimum (fields); finite elements decided."

    def spoil(certificate: dict) -> None:
        certificate["model"] |= {"accepted": False, "decisive": False, "verdict": poor}
        certificate["model"]["checks"][1] |= {"value": 0.04, "satisfied": False}

    parsed = page(write_report(changed("certificate.json", spoil)))
    text = words_of(parsed)
    assert "Accepted : the torsional" in text
    assert poor in text
    assert "so these lines inform and do not decide" in text
    assert parsed.row("Fields")[3] == "FAIL"


def test_warnings_and_an_unusual_end_are_passed_on(changed) -> None:
    changed("certificate.json", lambda c: c["warnings"].append("r0 = 1.7 is outside the trained box [0.6, 1.5] <b>"))
    folder = changed(
        "optimum.json", lambda o: o["exit"].update(reason="STALLED", text="The line search found nothing.")
    )
    text = words_of(page(write_report(folder)))
    assert "r0 = 1.7 is outside the trained box [0.6, 1.5] <b>" in text  # as text, not as a tag
    assert "The optimizer did not converge in the ordinary way. The line search found nothing." in text


def test_values_that_are_not_numbers_are_dashes(changed) -> None:
    def lose(certificate: dict) -> None:
        certificate |= {"accepted": False, "verdict": "Not accepted: mesh error failed"}
        certificate["design"]["checks"][0] |= {"value": None, "satisfied": False}
        certificate["objective"]["fem_levels"][1]["value"] = None
        certificate["objective"] |= {"improvement": None, "discretization_error": None, "initial_fem": None}
        certificate["constraints"][0] |= {"value": None, "miss": None, "satisfied": False}

    parsed = page(write_report(changed("certificate.json", lose)))
    assert parsed.row("Mesh error") == ["–", "≤ 0.1 %", "0.1 %", "FAIL"]
    assert parsed.row("Area [m²]")[1] == "–"


REQUIRED = {
    "resolved.yaml": "validate",
    "run.json": "validate",
    "certificate.json": "validate",
    "surrogate.card.json": "validate",
    "optimum.vtu": "validate",
    "initial.vtu": "validate",
    "history.csv": "optimize",
    "optimum.json": "optimize",
    "shapes.json": "optimize",
}


@pytest.mark.parametrize(("name", "stage"), REQUIRED.items())
@pytest.mark.parametrize("harm", ["missing", "cut", "empty"])
def test_missing_or_broken_file_is_named_with_its_stage(changed, name, stage, harm, capfd) -> None:
    folder = changed("certificate.json", lambda c: None)
    whole = (folder / name).read_bytes()
    half = len(whole) // 2 - 7
    end = whole.index(b":", whole.index(b"\n", half)) if name.endswith(".yaml") else half  # else it may be whole again
    (folder / name).write_bytes(b"" if harm == "empty" else whole[:end])
    if harm == "missing":
        (folder / name).unlink()
    with pytest.raises(ReportError) as caught:
        write_report(folder)
    assert str(folder / name) in str(caught.value)
    assert f"`shapewright {stage}`" in str(caught.value)
    assert not (folder / "report.html").exists()


def test_missing_entry_is_named(changed) -> None:
    folder = changed("certificate.json", lambda c: c["objective"].pop("fem_extrapolated"))
    with pytest.raises(ReportError, match=r"certificate\.json: has no entry 'objective\.fem_extrapolated'"):
        write_report(folder)


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("optimum.json", lambda o: o["exit"].pop("text"), "has no entry 'exit.text'; `shapewright optimize` makes it"),
        ("optimum.json", lambda o: o["starts"][1].update(iterations="many"), "starts.1.iterations: Input should be"),
        ("optimum.json", lambda o: o.update(best_start=None), "best_start: Input should be"),
        ("shapes.json", lambda s: s["optimum"].pop("control_points"), "has no entry 'optimum.control_points'"),
        ("shapes.json", lambda s: s["initial"]["outlines"][0].update(points=[["a", 1]]), "initial.outlines.0.points"),
        ("run.json", lambda r: r.pop("hardware"), "has no entry 'hardware'; `shapewright validate` makes it"),
        ("run.json", lambda r: r.update(packages=[]), "packages: Input should be"),
        ("surrogate.card.json", lambda c: c["held_out"].pop("cosine"), "has no entry 'held_out.cosine'"),
        ("certificate.json", lambda c: c.update(version=5), "version: found version 5; expected"),
        ("certificate.json", lambda c: c.update(model=None), "has objective.surrogate, but not all of model, "),
        ("certificate.json", lambda c: c.update(gradient=None), "has objective.surrogate, but not all of model, "),
    ],
)
def test_damaged_or_older_entry_is_named_with_the_command_that_makes_the_file(changed, name, edit, said) -> None:
    folder = changed(name, edit)
    with pytest.raises(ReportError) as caught:
        write_report(folder)
    assert str(caught.value).startswith(f"{folder / name}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_certificate_of_another_design_is_refused(changed) -> None:
    folder = changed("optimum.json", lambda o: o["parameters"].update(r0=1.0))
    with pytest.raises(ReportError, match=r"its parameters are not those of optimum\.json"):
        write_report(folder)


def test_history_without_a_constraint_is_refused(changed) -> None:
    folder = changed("certificate.json", lambda c: c["constraints"][0].update(name="perimeter equals"))
    with pytest.raises(ReportError, match=r"history\.csv: has no column 'perimeter equals'"):
        write_report(folder)


@pytest.mark.parametrize(("values", "message"), [(None, "has no array 'u_fem'"), (np.nan, "not finite")])
def test_field_that_is_missing_or_not_finite_is_refused(changed, values, message) -> None:
    folder = changed("certificate.json", lambda c: None)
    grid = pyvista.read(folder / "optimum.vtu")
    if values is None:
        del grid.point_data["u_fem"]
    else:
        grid.point_data["u_fem"][3] = values
    grid.save(folder / "optimum.vtu")
    with pytest.raises(ReportError, match=message):
        write_report(folder)


def test_earlier_report_survives_a_refusal(changed) -> None:
    folder = changed("certificate.json", lambda c: None)
    (folder / "report.html").write_text("earlier", encoding="utf-8")
    (folder / "shapes.json").unlink()
    with pytest.raises(ReportError):
        write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == "earlier"


def test_face_of_a_users_own_family_is_reported(changed) -> None:
    folder = changed("certificate.json", lambda c: c["cad"].update(kind="face", stl=None))
    text = (folder / "resolved.yaml").read_text(encoding="utf-8")
    own = text.replace("family: closed_bar", "family: shapes.py:Bar").replace("thickness: 0.5", "thickness: null")
    (folder / "resolved.yaml").write_text(own, encoding="utf-8")
    parsed = page(write_report(folder))
    assert parsed.row("Area, file read back") == ["1.570796\xa0m²"]
    assert parsed.row("STL")[0].startswith("none")
    assert "shapes.py:Bar geometry" in words_of(parsed)


def test_study_without_constraints_says_so(changed) -> None:
    folder = changed("certificate.json", lambda c: c.update(constraints=[], multipliers={}))
    text = (folder / "resolved.yaml").read_text(encoding="utf-8")
    start, end = text.index("constraints:"), text.index("sampling:")
    (folder / "resolved.yaml").write_text(text[:start] + text[end:], encoding="utf-8")
    parsed = page(write_report(folder))
    assert "The study has no constraints besides the bounds of its parameters." in words_of(parsed)
    assert len([source for source in parsed.sources if source.startswith("data:image/svg")]) == 2
