"""Print the packages of mambavision_lab, top to bottom, with what each imports: make packages."""

import grimp
from importlinter.api import read_configuration

ROOT = "mambavision_lab"


def main() -> None:
    """Print a Markdown table, and below it the imports that close a circle or point upwards or sideways."""
    graph = grimp.build_graph(ROOT, exclude_type_checking_imports=True)
    imports = package_imports(graph)
    levels = read_levels()
    packages = sorted(imports, key=lambda package: (levels.get(package, -1), package))
    print("| package | modules | imports |\n|---|---:|---|")
    for package in packages:
        modules = {f"{ROOT}.{package}", *graph.find_descendants(f"{ROOT}.{package}")}
        below = [other for other in packages if other in imports[package]]
        print(f"| `{package}` | {len(modules)} | {', '.join(f'`{other}`' for other in below)} |")
    upward = [
        f"{package} -> {other}"
        for package in packages
        for other in sorted(imports[package])
        if levels.get(other, len(levels)) <= levels.get(package, -1)
    ]
    circles = [
        f"{importer} -> {imported}"
        for parent in sorted(graph.modules)
        for importer, imported in sorted(graph.nominate_cycle_breakers(parent))
    ]
    for what, found in (
        ("Imports that close a circle", circles),
        ("Imports upwards or sideways", upward),
    ):
        print("\n".join((f"\n{what}: {len(found)}", *found)))


def package_imports(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """Find the packages (and modules of the top level), and what each imports of the others."""
    imports: dict[str, set[str]] = {
        child.split(".")[1]: set() for child in graph.find_children(ROOT)
    }
    for module in graph.modules - {ROOT}:
        package = module.split(".")[1]
        found = graph.find_modules_directly_imported_by(module) - {ROOT}
        imports[package] |= {other.split(".")[1] for other in found} - {package}
    return imports


def read_levels() -> dict[str, int]:
    """Read the level of each package, 0 the top, from the layers that import-linter checks."""
    contracts = read_configuration()["contracts_options"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return {
        name.strip().removeprefix(f"{ROOT}."): level
        for level, layer in enumerate(layers)
        for name in layer.split("|")
    }


if __name__ == "__main__":
    main()
