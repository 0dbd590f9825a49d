"""The report of `benchmark.gpu` as Markdown: a table a part."""

from benchmark.gpu_parts import PARTS


def outcome_line(part: dict) -> str:
    """A part's end in one line: how it ended, and what of it did not hold."""
    failed = [entry["what"] for entry in part["entries"] if entry["holds"] is False]
    line = f"{part['name']}: {part['ended']}, {part['seconds']:.0f} s, {len(part['entries'])} entries"
    return line + (f", NOT: {'; '.join(failed)}" if failed else "")


def tables(report: dict) -> str:
    """The whole report."""
    parts = [part for part in report["parts"] if part["name"] != "machine"]
    machine = next((part["entries"] for part in report["parts"] if part["name"] == "machine"), [])
    card = machine[0]["figures"] if machine else {}
    lines = [f"## {card.get('card', report['device'])}, {report['date']}", ""]
    if card:
        lines += ["; ".join(f"{name} {value}" for name, value in card.items() if name != "card") + "."]
    form = "python -m benchmark.gpu" + (" --quick" if report["quick"] else "")
    size = " Tiny sizes: the figures mean nothing." if report["quick"] else ""
    lines += [f"`{form}`, {report['seconds']:.0f} s in all.{size}", ""]
    lines += part_lines("Limits of the card", machine[1:]) if machine[1:] else []
    for part in parts:
        lines += part_lines(PARTS[part["name"]].title, part["entries"], ended=part["ended"])
    return "\n".join(lines)


def part_lines(title: str, entries: list[dict], *, ended: str = "well") -> list[str]:
    """A heading and one table whose columns are the figures that any of `entries` has."""
    lines = [f"### {title}", ""]
    if ended != "well":
        lines += [f"**This part did not end well: {ended}.**", ""]
    if not entries:
        return lines
    columns = list(dict.fromkeys(name for entry in entries for name in entry["figures"]))
    goals = ["goal"] if any(entry["goal"] or entry["holds"] is not None for entry in entries) else []
    lines += [row(["", *columns, *goals]), row(["---"] * (1 + len(columns) + len(goals)))]
    for entry in entries:
        cells = [str(entry["figures"].get(name, "")).replace("|", "/") for name in columns]
        lines.append(row([entry["what"], *cells, *([verdict(entry)] if goals else [])]))
    return [*lines, ""]


def verdict(entry: dict) -> str:
    """The entry's goal, and whether it was reached where that counts."""
    words = {True: "yes", False: "**no**", None: ""}[entry["holds"]]
    return f"{entry['goal'] or ''}{': ' if entry['goal'] and words else ''}{words}"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
