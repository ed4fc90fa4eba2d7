"""Documents in step with the code: what is declared is described, what is linked exists, what is quoted runs."""

import ast
import re
from pathlib import Path
from urllib.parse import unquote

from tests.repo import declared, reference
from tests.repo.tree import ROOT, python_files, tracked

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
COMMAND = re.compile(r"^\s*(?:\$ )?headrace((?: [a-z][a-z-]*)+)", re.MULTILINE)


def broken_links(root: Path = ROOT) -> list[str]:
    """Relative links that lead nowhere: a file that is not there, or a heading that its page does not have."""
    found = []
    for page in _pages(root):
        for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
            if re.match(r"[a-z][a-z+.-]*:", target):
                continue
            name, _, heading = unquote(target).partition("#")
            linked = (page.parent / name).resolve() if name else page
            if not linked.exists():
                found.append(f"{page.relative_to(root)}: no file {target}")
            elif heading and linked.suffix == ".md" and heading not in anchors(linked.read_text("utf-8")):
                found.append(f"{page.relative_to(root)}: no heading {target}")
    return found


def missing_pages(root: Path = ROOT) -> list[str]:
    """Pages in docs/ that the source sends its reader to and that are not there."""
    found = set()
    for path in python_files(root):
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text("utf-8")):
            if not (root / page).exists():
                found.add(f"{path.relative_to(root)}: no page {page}")
    return sorted(found)


def anchors(text: str) -> set[str]:
    """The names under which a page's headings can be linked."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def undocumented_rules(root: Path = ROOT) -> list[str]:
    """Rules by which input is refused that docs/bad-input.md does not name."""
    page = root / "docs" / "bad-input.md"
    text = page.read_text("utf-8") if page.exists() else ""
    return sorted(rule for rule in declared.rules(root) if f"`{rule}`" not in text)


def undocumented_variables(root: Path = ROOT) -> list[str]:
    """Environment variables that some string of the packages names and no page in docs/ does."""
    pages = "".join(page.read_text("utf-8") for page in sorted((root / "docs").rglob("*.md")))
    named = {
        node.value
        for path in python_files(root)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    variables = {name for name in named if re.fullmatch(r"HEADRACE_[A-Z_]*[A-Z]", name)}
    return sorted(variable for variable in variables if f"`{variable}`" not in pages)


def stale_pages(root: Path = ROOT) -> list[str]:
    """Pages whose generated sections are not what the code says now."""
    texts = ((page, page.read_text("utf-8")) for page in reference.pages(root))
    return [str(page.relative_to(root)) for page, text in texts if reference.rewritten(text) != text]


def missing_sections(root: Path = ROOT) -> set[str]:
    """Generated sections that no page holds."""
    held = {name for page in reference.pages(root) for name in reference.sections(page.read_text("utf-8"))}
    return set(reference.WRITERS) - held


def unknown_targets(root: Path = ROOT) -> list[str]:
    """`make X` in a page where the Makefile has no X."""
    makefile = root / "Makefile"
    known = set(re.findall(r"^([a-z][a-z-]*):", makefile.read_text("utf-8"), re.MULTILINE))
    found = []
    for page in _pages(root):
        for block in re.findall(
            r"`[^`\n]+`|^```.*?^```|^    .*$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
        ):
            found += [
                f"{page.relative_to(root)}: make {name}" for name in MAKE.findall(block) if name not in known
            ]
    return found


def unknown_commands(known: set[str], root: Path = ROOT) -> list[str]:
    """`headrace X` at the start of a line of a code block where there is no command X. known: `stream create`, ..."""
    found = []
    for page in _pages(root):
        for block in re.findall(r"^```.*?^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            for words in COMMAND.findall(block):
                parts = words.split()
                if parts[0] not in known and " ".join(parts[:2]) not in known:
                    found.append(f"{page.relative_to(root)}: headrace{words}")
    return found


def _pages(root: Path) -> list[Path]:
    return [path for path in tracked(root) if path.suffix == ".md"]
