"""What the package's Python can say to a user, read from its source: errors, warnings, remedies.

A message is what an expression can become, with … for every part that is known at run time only.
Names are followed to what was assigned to them, calls of the package's own functions to what those
return, and parameters of a function that does nothing but raise to what it is called with.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lmp_dp

ROOT = Path(lmp_dp.__file__).parent
UNKNOWN = "…"
#: Constructors and functions whose arguments a user reads: which ones, by position.
SINKS = {
    "SystemExit": (0,),
    "CaptureRefused": (0,),
    "ArgumentTypeError": (0,),
    "warn": (0,),
    "_warn": (0,),
    "say": (1,),
    "Finding": (2,),
    "_say": (1,),
    "_failed": (1,),
}
#: Keywords whose values are such arguments, and functions that return them.
KEYWORDS = ("warning", "remark", "doubts")
#: Verdicts of doctor that nothing has to be done about.
FINE = ("OK",)
#: Raised for programs that look whether an object has something.
PRIVATE_ERRORS = ("AttributeError",)
#: Longer constants (how a command is written) are not repeated in each message.
LONGEST_CONSTANT = 160
_PARAMETER = re.compile("\x01(.*?)\x02")
_PREFIX = re.compile(r"^(ERROR: )?(pair_style dp: |lmp-dp run: error: |(error|warning): )?")
_DEEPEST = 16
_MOST_WORDINGS, _SHORT = 3, 30


@dataclass(frozen=True, order=True)
class Message:
    """A text with … for what it quotes, and where it is in the source."""

    text: str
    place: str


def normalised(text: str) -> str:
    """One line without who says it, and with one … for neighbouring unknown parts."""
    text = _PARAMETER.sub(UNKNOWN, text)
    text = _PREFIX.sub("", re.sub(r"\s+", " ", text).strip())
    text = re.sub(rf"{UNKNOWN}(?: ?{UNKNOWN}|\.\.\.)+", UNKNOWN, text)
    return re.sub(rf"^(?:{UNKNOWN}: )+", "", text)  # of which file or part


def says_something(text: str) -> bool:
    """Whether two words of it are its own."""
    text = _PARAMETER.sub("", text).replace("pair_style dp", "")
    text = re.sub("lmp[-_]dp", "", text)
    return len(re.findall(r"[A-Za-z]{2,}", text)) >= 2


class Module:
    """A module's tree, with the function that each node is in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(), str(path))
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    def function_of(self, node: ast.AST) -> ast.FunctionDef | None:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.FunctionDef):
                return node
        return None


class Package:
    """All modules below a folder, with their functions and calls by name."""

    def __init__(self, root: Path) -> None:
        self.modules = [Module(path) for path in sorted(root.rglob("*.py"))]
        self.functions: dict[str, list[tuple[Module, ast.FunctionDef]]] = defaultdict(list)
        self.calls: dict[str, list[tuple[Module, ast.Call]]] = defaultdict(list)
        for module in self.modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.FunctionDef):
                    self.functions[node.name].append((module, node))
                elif isinstance(node, ast.Call):
                    self.calls[called(node)].append((module, node))

    # ------------------------------------------------------------------- what an expression becomes

    def texts(self, module: Module, node: ast.AST, depth: int = 0) -> list[str]:
        """All texts that an expression can become."""
        return self._texts(module, node, depth) or [UNKNOWN]

    def _texts(self, module: Module, node: ast.AST, depth: int) -> list[str]:
        if depth > _DEEPEST:
            return [UNKNOWN]
        follow = functools.partial(self.texts, module, depth=depth + 1)
        if isinstance(node, ast.Constant):
            return [node.value if isinstance(node.value, str) else UNKNOWN]
        if isinstance(node, ast.JoinedStr):
            return joined([follow(part) for part in node.values])
        if isinstance(node, ast.FormattedValue):
            if node.format_spec is not None or node.conversion != -1:
                return [UNKNOWN]
            found = follow(node.value)
            if len(found) > _MOST_WORDINGS and max(map(len, found)) < _SHORT:
                return [UNKNOWN]  # names of things, in words
            optional = any(map(says_something, found))
            return [  # one word is one of many
                text
                if says_something(text) or _PARAMETER.search(text) or (optional and not text)
                else UNKNOWN
                for text in found
            ]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return joined([follow(node.left), follow(node.right)])
        if isinstance(node, ast.IfExp):
            return follow(node.body) + follow(node.orelse)
        if isinstance(node, ast.BoolOp):
            return [text for value in node.values for text in follow(value)]
        if isinstance(node, ast.Name):
            return self._named(module, node, depth)
        if isinstance(node, ast.Subscript):
            return self._members(module, node.value, depth)
        if isinstance(node, ast.Call):
            return self._returned(module, node, depth)
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Call):  # (log, warning)
            return self._given_back(module, called(node.value), 1, depth)
        return [UNKNOWN]

    def _named(self, module: Module, node: ast.Name, depth: int) -> list[str]:
        function = module.function_of(node)
        while function is not None:
            arguments = function.args
            names = [
                a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            ]
            if found := self._just_before(module, node, depth):
                return found
            if found := self._assigned(module, function, node.id, depth):
                return found
            if node.id in names:
                return [f"\x01{node.id}\x02"]
            function = module.function_of(function)
        found = self._assigned(module, module.tree, node.id, depth)
        return [text if len(text) <= LONGEST_CONSTANT else UNKNOWN for text in found] or [UNKNOWN]

    def _just_before(self, module: Module, name: ast.Name, depth: int) -> list[str]:
        """What a name has from an assignment that cannot be passed by, with what is added after."""
        node: ast.AST = name
        between: list[ast.stmt] = []
        while not isinstance(node, ast.FunctionDef) and node in module.parents:
            above = module.parents[node]
            for block in (getattr(above, field, None) for field in ("body", "orelse", "finalbody")):
                if not (isinstance(block, list) and node in block):
                    continue
                before = block[: block.index(node)]
                for place, one in reversed(tuple(enumerate(before))):
                    if isinstance(one, ast.Assign) and name.id in map(ast.unparse, one.targets):
                        found = self.texts(module, one.value, depth + 1)
                        for later in (*before[place + 1 :], *between):
                            found += self._added(module, later, name.id, found, depth)
                        return found
                between = before + between
            node = above
        return []

    def _added(
        self, module: Module, statement: ast.stmt, name: str, texts: list[str], depth: int
    ) -> list[str]:
        """What `texts` become by `name += ...` anywhere in a statement, and by new assignments."""
        if isinstance(statement, ast.AugAssign) and ast.unparse(statement.target) == name:
            texts[:] = joined([texts, self.texts(module, statement.value, depth + 1)])
            return []
        found: list[str] = []
        for node in ast.walk(statement):
            if isinstance(node, ast.AugAssign) and ast.unparse(node.target) == name:
                found += joined([texts, self.texts(module, node.value, depth + 1)])
            elif isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
                found += self.texts(module, node.value, depth + 1)
        return found

    def _assigned(self, module: Module, scope: ast.AST, name: str, depth: int) -> list[str]:
        """What is assigned to a name anywhere in a scope; what is added to it comes last."""
        found: list[str] = []
        within = scope if isinstance(scope, ast.FunctionDef) else None
        for node in ast.walk(scope):
            if module.function_of(node) is not within:
                continue
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        found += self.texts(module, node.value, depth + 1)
                    elif isinstance(target, ast.Tuple):
                        for place, one in enumerate(target.elts):
                            if not (isinstance(one, ast.Name) and one.id == name):
                                continue
                            if isinstance(node.value, ast.Tuple):
                                found += self.texts(module, node.value.elts[place], depth + 1)
                            elif isinstance(node.value, ast.Call):
                                given = called(node.value)
                                found += self._given_back(module, given, place, depth + 1)
            elif isinstance(node, ast.NamedExpr) and node.target.id == name:
                found += self.texts(module, node.value, depth + 1)
            elif isinstance(node, ast.For | ast.comprehension):
                found += self._iterated(module, node.target, node.iter, name, depth)
            elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) == name:
                found += joined([found or [UNKNOWN], self.texts(module, node.value, depth + 1)])
        return found

    def _iterated(
        self, module: Module, target: ast.expr, over: ast.expr, name: str, depth: int
    ) -> list[str]:
        """What a loop's name becomes: members of a tuple of tuples, or values of a dictionary."""
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        places = [n for n, one in enumerate(names) if isinstance(one, ast.Name) and one.id == name]
        if not places:
            return []
        if isinstance(over, ast.Call) and called(over) == "items":
            assert isinstance(over.func, ast.Attribute)
            return self._members(module, over.func.value, depth) if places[0] else [UNKNOWN]
        if isinstance(over, ast.Tuple | ast.List) and len(names) > 1:
            rows = [row.elts for row in over.elts if isinstance(row, ast.Tuple)]
            return [t for row in rows for t in self.texts(module, row[places[0]], depth + 1)]
        return [UNKNOWN]

    def _members(self, module: Module, node: ast.expr, depth: int) -> list[str]:
        """What is in a container that is written as such, or is a name for one."""
        follow = functools.partial(self.texts, module, depth=depth + 1)
        if isinstance(node, ast.Dict):
            return [text for value in node.values for text in follow(value)]
        if isinstance(node, ast.Tuple | ast.List):
            return [text for value in node.elts for text in follow(value)]
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            return follow(node.elt)
        if isinstance(node, ast.Name):
            function = module.function_of(node)
            if found := [
                text
                for one in ast.walk(function or module.tree)
                if isinstance(one, ast.Call) and called(one) == "append"
                if ast.unparse(one.func) == f"{node.id}.append"
                for text in follow(one.args[0])
            ]:
                return found
            scopes = [function, module.tree]
            for scope in filter(None, scopes):
                for one in ast.walk(scope):
                    if (
                        isinstance(one, ast.Assign | ast.AnnAssign)
                        and one.value is not None
                        and node.id in [ast.unparse(t) for t in targets(one)]
                        and isinstance(one.value, ast.Dict | ast.Tuple | ast.List | ast.ListComp)
                    ):
                        return self._members(module, one.value, depth + 1)
        return [UNKNOWN]

    def _returned(self, module: Module, call: ast.Call, depth: int) -> list[str]:
        """What a call gives, where it is of a function of ours that returns text."""
        name = called(call)
        if name in ("printable", "str", "rstrip", "strip") and call.args:
            return self.texts(module, call.args[0], depth + 1)
        if name == "join" and call.args:
            found = self._members(module, call.args[0], depth)
            found = [text if says_something(text) and " " in text else UNKNOWN for text in found]
            return found or [UNKNOWN]
        if name in ("removeprefix", "removesuffix", "format") and isinstance(
            call.func, ast.Attribute
        ):
            return self.texts(module, call.func.value, depth + 1)
        return self._given_back(module, name, None, depth)

    def _given_back(self, module: Module, name: str, place: int | None, depth: int) -> list[str]:
        """What a function of ours returns, or what stands at a place of the tuples it returns."""
        owners = self.functions.get(name, [])
        here = [one for one in owners if one[0] is module] or owners
        if len(here) != 1:
            return [UNKNOWN]
        [(owner, function)] = here
        found = []
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and owner.function_of(node) is function:
                value = node.value
                if place is not None:
                    value = value.elts[place] if isinstance(value, ast.Tuple) else None
                if value is not None:
                    found += self.texts(owner, value, depth + 1)
        return [text for text in found if says_something(text)] or [UNKNOWN]

    # ------------------------------------------------------------------------ where a user reads it

    def read(self) -> Iterator[tuple[Module, ast.expr, str]]:
        """What users read: each text, and the expression that becomes it."""
        for module in self.modules:
            for node in ast.walk(module.tree):
                for expression in read_by_users(node, module):
                    for text in self.texts(module, expression):
                        yield from self._from_callers(module, expression, text)

    def _from_callers(
        self, module: Module, node: ast.expr, text: str, depth: int = 0
    ) -> Iterator[tuple[Module, ast.expr, str]]:
        """`text`, or where it has nothing of its own, what callers give for its parameters."""
        parameter = _PARAMETER.search(text)
        if says_something(text):
            yield module, node, text
        elif parameter and depth < _DEEPEST:
            function = module.function_of(node)
            while function is not None:
                names = [a.arg for a in function.args.args]
                if parameter[1] in names:
                    break
                function = module.function_of(function)
            if function is None:
                return
            n = names.index(parameter[1]) - (names[0] in ("self", "cls"))
            for caller, call in self.calls[function.name]:
                if not reaches(call, module, function):
                    continue
                given = [k.value for k in call.keywords if k.arg == parameter[1]] + call.args[
                    n : n + 1
                ]
                for argument in given[:1]:
                    for value in self.texts(caller, argument):
                        whole = text.replace(parameter[0], value)
                        yield from self._from_callers(caller, argument, whole, depth + 1)


def reaches(call: ast.Call, module: Module, function: ast.FunctionDef) -> bool:
    """Whether a call by the name of a module's function may be of it."""
    of_module = isinstance(module.parents[function], ast.Module)
    if isinstance(call.func, ast.Attribute):
        owner = ast.unparse(call.func.value)
        return owner == module.path.stem if of_module else True
    return of_module or isinstance(module.parents[function], ast.FunctionDef)


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def joined(parts: Iterable[list[str]]) -> list[str]:
    """Every way to put one text of each part after another."""
    return ["".join(texts) for texts in itertools.product(*parts)]


def read_by_users(node: ast.AST, module: Module) -> Iterator[ast.expr]:
    """The parts of a node that are texts for users."""
    if isinstance(node, ast.Call):
        name = called(node)
        if name.endswith("Error") and name not in PRIVATE_ERRORS and name != "error":
            yield from node.args[:1]
        if any(ast.unparse(argument) in FINE for argument in node.args[:2]):
            return
        for place in SINKS.get(name, ()):
            yield from node.args[place : place + 1]
            yield from (a for a in node.args[:1] if place == 1 and isinstance(a, ast.Starred))
        if name == "print" and any(ast.unparse(k.value) == "sys.stderr" for k in node.keywords):
            yield from node.args[:1]
        yield from (k.value for k in node.keywords if k.arg in KEYWORDS)
    elif isinstance(node, ast.Return) and node.value is not None:
        function = module.function_of(node)
        if function is not None and function.name in KEYWORDS:
            yield node.value
    elif isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Attribute) and target.attr in KEYWORDS for target in node.targets
    ):
        yield node.value


@functools.cache
def package() -> Package:
    return Package(ROOT)


@functools.cache
def read() -> list[tuple[Module, ast.expr, str]]:
    """What users read of the package: each text, and the expression that becomes it."""
    return list(package().read())


@functools.cache
def messages() -> list[Message]:
    """Every message of the package's Python, in order, with the first place of each."""
    found: dict[str, str] = {}
    for module, node, text in read():
        place = f"{module.path.relative_to(ROOT.parent)}:{node.lineno}"
        if says_something(text := normalised(text)):
            found.setdefault(text, place)
    return sorted(Message(text, place) for text, place in found.items())


if __name__ == "__main__":
    for message in messages():
        print(f"{message.place}: {message.text}")
