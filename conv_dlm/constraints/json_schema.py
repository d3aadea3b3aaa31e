"""From a JSON schema to an expression for the JSON texts that are valid under it.

Every text of the expression is valid. Not every valid text is in it: members come in the schema's order, and those that
`properties` does not name are not written where it names some; strings have no \\u escapes (characters stand for
themselves). What can't be guaranteed is refused by name, never left out. None stands for the empty language, so that
what can't be ended within the depth drops out: an optional member, one of several alternatives, an element.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from itertools import combinations
from reprlib import repr as shortened
from typing import Any

from conv_dlm.constraints.byte_automaton import byte_automaton, meet
from conv_dlm.constraints.errors import BadExpression, UnsupportedSchema
from conv_dlm.constraints.number_ranges import decimals, integers

Schema = Mapping[str, Any] | bool

CHARACTER = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])'
PLAIN = r'[^"\\\x00-\x1f]'  # a character that stands for itself in a JSON string
NOT_PLAIN = r'"\\\x00-\x1f'

_LONG_MONTH = "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
_SHORT_MONTH = "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
_DAY = f"(?:{_LONG_MONTH}|{_SHORT_MONTH}|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_FOURTH = "(?:[2468][048]|[13579][26]"  # the years 04, 08, ... 96, without the first two
_LEAP_YEAR = f"(?:[1-9][0-9]{_FOURTH}|0[48])|{_FOURTH})00)"
_DATE = f"(?:[1-9][0-9]{{3}}-{_DAY}|{_LEAP_YEAR}-02-29)"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*"
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "email": rf"[a-zA-Z0-9_+-]+(?:\.[a-zA-Z0-9_+-]+)*@{_LABEL}(?:\.{_LABEL})+",
}

# Say nothing about which texts are valid.
ANNOTATIONS = {
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly", "discriminator",
}  # fmt: skip
OF_TYPE: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
}
COMBINATIONS = {"anyOf", "oneOf", "allOf", "$ref", "enum", "const"}


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


# What the value of a keyword has to be, where nothing else looks at it.
SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (lambda value: isinstance(value, str) or _are_texts(value), "a name, or a list of names"),
    "properties": (lambda value: isinstance(value, Mapping), "an object with a schema for each name"),
    "required": (_are_texts, "a list of names"),
    "prefixItems": (lambda value: isinstance(value, list | tuple), "a list of schemas"),
    "enum": (lambda value: isinstance(value, list | tuple), "a list of values"),
    "pattern": (lambda value: isinstance(value, str), "text"),
    "format": (lambda value: isinstance(value, str), "a name"),
}


def schema_expression(schema: Schema, depth: int, whitespace: str) -> str:
    """The expression of the JSON texts that `schema` allows.

    depth: how often a recursive reference may be followed inside itself, and how deep values without a schema may be.
    whitespace: expression of what may stand between brackets, members and elements.

    Raises `UnsupportedSchema`, which names keyword and place.
    """
    made = _Maker(schema, depth, whitespace).value(schema, "#", {})
    if made is None:
        raise UnsupportedSchema(
            f"No JSON text is valid under the schema, or none that ends within {depth} recursions; raise `depth`."
        )
    return made


class _Maker:
    def __init__(self, root: Schema, depth: int, whitespace: str) -> None:
        self.root, self.depth, self.space = root, depth, f"(?:{whitespace})"

    def value(self, schema: Any, path: str, followed: Mapping[str, int]) -> str | None:
        """The expression of one value. followed: how often each reference was followed on the way here."""
        if schema is True or schema == {}:
            return self.anything(self.depth)
        if schema is False:
            return None
        _check_shapes(schema, path)
        said = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        for key in ("anyOf", "oneOf", "allOf", "$ref"):
            if key in said:
                return self.combined(key, said, path, followed)
        types = said.get("type", self._implied_types(said))
        types = [types] if isinstance(types, str) else list(types)
        for name in types:
            if name not in OF_TYPE:
                raise UnsupportedSchema(f"`type` at {path} is {name!r}; it may be one of {sorted(OF_TYPE)}.")
        if "enum" in said or "const" in said:
            return self.literal(said, types, path)
        known = set().union(*(OF_TYPE[name] for name in types)) | {"type"}
        self._refuse(sorted(said.keys() - known), path)
        if not said:
            return self.anything(self.depth)
        makers: dict[str, Callable[[], str | None]] = {
            "object": lambda: self.object(said, path, followed),
            "array": lambda: self.array(said, path, followed),
            "string": lambda: self.string(said, path),
            "integer": lambda: self.number(said, path, whole=True),
            "number": lambda: self.number(said, path, whole=False),
            "boolean": lambda: "(?:true|false)",
            "null": lambda: "null",
        }
        return _either([makers[name]() for name in types])

    @staticmethod
    def _implied_types(said: Mapping[str, Any]) -> list[str]:
        """Without `type`, keywords of one type leave the others free; that type is taken, for which they are meant."""
        if "enum" in said or "const" in said:
            return list(OF_TYPE)
        meant = [name for name in ("object", "array", "string", "number") if said.keys() & OF_TYPE[name]]
        return meant or list(OF_TYPE)

    @staticmethod
    def _refuse(keywords: list[str], path: str) -> None:
        if keywords:
            raise UnsupportedSchema(
                f"`{keywords[0]}` at {path} can't be guaranteed; leave it out and check it afterwards, or describe the "
                "text by `Regex`."
            )

    def combined(self, key: str, said: dict[str, Any], path: str, followed: Mapping[str, int]) -> str | None:
        """A schema with anyOf, oneOf, allOf or $ref; what stands beside it holds in each of its parts."""
        beside = {name: value for name, value in said.items() if name != key}
        if key == "$ref":
            name = said[key]
            target = self._resolve(name, path)
            times = followed.get(name, 0)
            if times > self.depth:
                return None
            return self.value(self._merged([beside, target], path), name, {**followed, name: times + 1})
        if not isinstance(said[key], list) or not said[key]:
            raise UnsupportedSchema(f"`{key}` at {path} has to be a list of schemas.")
        if key == "allOf":
            parts = [self._dereferenced(part, path) for part in said[key]]
            return self.value(self._merged([beside, *parts], path), path, followed)
        options = [
            self.value(self._merged([beside, part], path) if beside else part, f"{path}/{key}/{n}", followed)
            for n, part in enumerate(said[key])
        ]
        if key == "oneOf":
            automata = [byte_automaton(option) for option in options if option is not None]
            if any(meet(one, other)[0] for one, other in combinations(automata, 2)):
                raise UnsupportedSchema(f"`oneOf` at {path} has parts with common values; take `anyOf`.")
        return _either(options)

    def _dereferenced(self, schema: Any, path: str) -> Any:
        if isinstance(schema, Mapping) and set(schema) - ANNOTATIONS == {"$ref"}:
            return self._resolve(schema["$ref"], path)
        return schema

    def _resolve(self, reference: Any, path: str) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise UnsupportedSchema(
                f"`$ref` at {path} is {reference!r}; only references within the schema (#/...) work."
            )
        target: Any = self.root
        for step in reference.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%22", '"')
            try:
                target = target[int(step)] if isinstance(target, list) else target[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise UnsupportedSchema(f"`$ref` at {path}: there is no {reference}.") from None
        return target

    def _merged(self, schemas: list[Any], path: str) -> Any:
        """One schema that says what all of them say, each keyword once; members and those required are put together."""
        for schema in schemas:
            if not isinstance(schema, bool):
                _check_shapes(schema, path)
        schemas = [schema for schema in schemas if schema is not True and schema != {}]
        if any(schema is False for schema in schemas):
            return False
        if len(schemas) == 1:
            return schemas[0]
        merged: dict[str, Any] = {}
        for schema in schemas:
            for key, value in schema.items():
                if key in ANNOTATIONS or key not in merged or merged[key] == value:
                    merged[key] = value
                elif key == "required":
                    merged[key] = [*merged[key], *(name for name in value if name not in merged[key])]
                elif key == "properties" and not (merged[key].keys() & value.keys()):
                    merged[key] = {**merged[key], **value}
                else:
                    raise UnsupportedSchema(
                        f"`{key}` is said twice, differently, in parts of {path} that hold together."
                    )
        # these two are about what their own schema doesn't name, whatever other parts do
        for others, named in (("additionalProperties", "properties"), ("items", "prefixItems")):
            for schema in schemas:
                if schema.get(others, True) not in (True, {}) and len(merged.get(named, ())) > len(
                    schema.get(named, ())
                ):
                    raise UnsupportedSchema(
                        f"`{others}` at {path} holds for `{named}` of another part, too; write `{named}` beside it."
                    )
        return merged

    @staticmethod
    def _count(said: Mapping[str, Any], key: str, path: str) -> int | None:
        """A keyword that counts something."""
        count = said.get(key)
        if count is None:
            return None
        if not _is_whole(count) or count < 0:
            raise UnsupportedSchema(f"`{key}` at {path} is {shortened(count)}; it has to be a whole number from 0 on.")
        return int(count)

    def literal(self, said: dict[str, Any], types: list[str], path: str) -> str | None:
        self._refuse(sorted(said.keys() - {"enum", "const", "type"}), path)
        values = [said["const"]] if "const" in said else said["enum"]
        if "const" in said and "enum" in said and said["const"] not in said["enum"]:
            return None
        try:
            return _either([self.constant(value) for value in values if any(_is_a(value, name) for name in types)])
        except (TypeError, ValueError) as error:  # of `json`: NaN, an object of Python's
            raise UnsupportedSchema(f"A value of `enum` or `const` at {path} is none of JSON's: {error}.") from error

    def constant(self, value: Any) -> str:
        if isinstance(value, Mapping):
            members = [f"{_quoted(str(key))}:{self.space}{self.constant(member)}" for key, member in value.items()]
            return self._between("\\{", self._comma.join(members), "\\}")
        if isinstance(value, list):
            return self._between("\\[", self._comma.join(self.constant(element) for element in value), "\\]")
        return _quoted(value)

    @property
    def _comma(self) -> str:
        return f",{self.space}"

    def _between(self, opening: str, inside: str, closing: str) -> str:
        return f"{opening}{self.space}(?:{inside}){self.space}{closing}"

    def object(self, said: Mapping[str, Any], path: str, followed: Mapping[str, int]) -> str | None:
        properties, required = said.get("properties", {}), set(said.get("required", ()))
        others = said.get("additionalProperties", True)
        if not properties and not required:
            member = self.value(others, f"{path}/additionalProperties", followed)
            return self._members(member)
        undescribed = sorted(required - properties.keys())
        if undescribed and others is False:
            return None
        described = {**properties, **{name: others for name in undescribed}}
        members = []
        for name, schema in described.items():
            made = self.value(schema, f"{path}/properties/{name}", followed)
            if made is not None:
                members.append((f"{_quoted(name)}:{self.space}{made}", name in required))
            elif name in required:
                return None
        # the first member that is written has no comma before it
        options, before_required = [], True
        for number, (member, needed) in enumerate(members):
            rest = (f"{self._comma}{m}" if n else f"(?:{self._comma}{m})?" for m, n in members[number + 1 :])
            options.append(member + "".join(rest))
            if needed:
                before_required = False
                break
        if before_required:
            options.append("")
        return self._between("\\{", "|".join(options), "\\}")

    def _members(self, value: str | None) -> str:
        """Any members with such values."""
        if value is None:
            return f"\\{{{self.space}\\}}"
        member = f'"{CHARACTER}*":{self.space}(?:{value})'
        return self._between("\\{", f"(?:(?:{member}{self._comma})*{member})?", "\\}")

    def array(self, said: Mapping[str, Any], path: str, followed: Mapping[str, int]) -> str | None:
        if said.get("uniqueItems"):
            self._refuse(["uniqueItems"], path)
        if isinstance(said.get("items"), list):
            raise UnsupportedSchema(f"`items` at {path} is a list; write it as `prefixItems`.")
        least, most = self._count(said, "minItems", path) or 0, self._count(said, "maxItems", path)
        first = [self.value(s, f"{path}/prefixItems/{n}", followed) for n, s in enumerate(said.get("prefixItems", ()))]
        element = self.value(said.get("items", True), f"{path}/items", followed)
        first = first if most is None else first[:most]
        inside: str | None
        if element is None or (most is not None and most <= len(first)):
            inside = "" if least <= len(first) else None
        else:
            behind = _times(max(least - len(first), 0), None if most is None else most - len(first))
            inside = f"(?:{self._comma}{element}){behind}"
            if not first:
                further = _times(max(least - 1, 0), None if most is None else most - 1)
                inside = f"{element}(?:{self._comma}{element}){further}"
                inside = inside if least else f"(?:{inside})?"
        for number, value in reversed(list(enumerate(first))):
            if value is None:
                inside = "" if least <= number else None
            elif inside is not None or least <= number + 1:
                inside = f"{self._comma if number else ''}{value}{inside or ''}"
                inside = inside if number < least else f"(?:{inside})?"
        return None if inside is None else self._between("\\[", inside, "\\]")

    def string(self, said: Mapping[str, Any], path: str) -> str:
        if {"pattern", "format"} <= said.keys() or (
            {"pattern", "format"} & said.keys() and {"minLength", "maxLength"} & said.keys()
        ):
            raise UnsupportedSchema(
                f"`pattern`, `format` and lengths at {path} are guaranteed one at a time; put the length into the "
                "pattern."
            )
        if "format" in said:
            if said["format"] not in FORMATS:
                self._refuse([f"format: {said['format']}"], path)
            return f'"{FORMATS[said["format"]]}"'
        if "pattern" in said:
            return f'"{_pattern(said["pattern"], path)}"'
        length = _times(self._count(said, "minLength", path) or 0, self._count(said, "maxLength", path))
        return f'"{CHARACTER}{length}"'

    def number(self, said: Mapping[str, Any], path: str, whole: bool) -> str | None:
        bounds: dict[str, int] = {}
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if key in said:
                bound = said[key]
                if not _is_whole(bound):
                    raise UnsupportedSchema(
                        f"`{key}` at {path} is {shortened(bound)}; bounds have to be whole numbers."
                    )
                bounds[key] = int(bound)
        low, high = bounds.get("minimum"), bounds.get("maximum")
        over, under = bounds.get("exclusiveMinimum"), bounds.get("exclusiveMaximum")
        if whole:
            lows = [bound for bound in (low, None if over is None else over + 1) if bound is not None]
            highs = [bound for bound in (high, None if under is None else under - 1) if bound is not None]
            return integers(max(lows, default=None), min(highs, default=None))
        without_low = over is not None and (low is None or over >= low)
        without_high = under is not None and (high is None or under <= high)
        return decimals(over if without_low else low, under if without_high else high, without_low, without_high)

    def anything(self, depth: int) -> str:
        """Any JSON value, with arrays and objects up to `depth` inside each other."""
        scalar = f'(?:"{CHARACTER}*"|{decimals(None, None)}|true|false|null)'
        if depth == 0:
            return scalar
        value = self.anything(depth - 1)
        elements = self._between("\\[", f"(?:(?:{value}{self._comma})*{value})?", "\\]")
        return f"(?:{scalar}|{elements}|{self._members(value)})"


def _check_shapes(schema: Any, path: str) -> None:
    """Raise `UnsupportedSchema` for what is no schema, or has a keyword with a value of another kind."""
    if not isinstance(schema, Mapping):
        raise UnsupportedSchema(f"A schema is an object or a boolean, and {path} is {shortened(schema)}.")
    for key, value in schema.items():
        if not isinstance(key, str):
            raise UnsupportedSchema(f"Keywords of a schema are text, and {path} has {shortened(key)}.")
        fits, what = SHAPES.get(key, (None, ""))
        if fits is not None and not fits(value):
            raise UnsupportedSchema(f"`{key}` at {path} is {shortened(value)}; it has to be {what}.")


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value == int(value)


def _either(options: list[str | None]) -> str | None:
    found = [option for option in options if option is not None]
    return f"(?:{'|'.join(found)})" if found else None


def _times(least: int, most: int | None) -> str:
    return "*" if (least, most) == (0, None) else f"{{{least},{'' if most is None else most}}}"


def _quoted(value: Any) -> str:
    """An expression for the JSON of a scalar."""
    return escaped(json.dumps(value, ensure_ascii=False, allow_nan=False))


def escaped(text: str) -> str:
    """An expression that matches `text` and nothing else."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&\-~])", r"\\\1", text)


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool) or value is None:
        return name == ("null" if value is None else "boolean")
    if isinstance(value, int | float):
        return name == "number" or (name == "integer" and _is_whole(value))
    return isinstance(value, {"string": str, "array": list, "object": Mapping}.get(name, ()))


def _pattern(pattern: str, path: str) -> str:
    """What a schema's `pattern` allows between the quotes. It is searched for, so that without ^ and $ anything may
    stand around it; characters that a JSON string has to escape drop out of `.` and of classes that say what is not in
    them."""
    starts, ends = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    inside = pattern[starts : len(pattern) - ends]
    safe, level, position, alternatives = [], 0, 0, False
    while position < len(inside):
        part = re.match(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", inside[position:], re.DOTALL)[0]  # type: ignore[index]
        position += len(part)
        level += (part == "(") - (part == ")")
        alternatives = alternatives or (part == "|" and level == 0)
        if part == "." or part in ("\\S", "\\W", "\\D"):
            part = PLAIN if part == "." else f"[^{part.lower()}{NOT_PLAIN}]"
        elif part.startswith("[^"):
            part = f"{part[:-1]}{NOT_PLAIN}]"
        safe.append(part)
    if alternatives and (starts or ends):
        raise UnsupportedSchema(f"`pattern` at {path}: put the alternatives between ^ and $ into a group, ^(?:a|b)$.")
    around = f"{PLAIN}*"
    made = f"{'' if starts else around}(?:{''.join(safe)}){'' if ends else around}"
    try:
        automaton = byte_automaton(made)
    except BadExpression as error:
        raise UnsupportedSchema(f"`pattern` at {path}: {error}") from error
    if not meet(automaton, byte_automaton(around))[1]:
        raise UnsupportedSchema(
            f"`pattern` {pattern!r} at {path} matches characters that JSON has to escape (quotes, backslashes, control "
            "characters); write a pattern without them."
        )
    return made
