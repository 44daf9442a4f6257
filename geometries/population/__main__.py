"""``python -m shapewright.geometries.population``."""

from shapewright.geometries.population.command import main

if __name__ == "__main__":
    main()
