"""Compares the released description with the served one, by what a client may rely on.

usage: compare.py RELEASED SERVED DIFFERENCES [SEEN]

Without SEEN: every difference of the two texts must be listed in DIFFERENCES, and every listed one must be there.
With SEEN, what hooks.py noted in a run of RELEASED: says which listed findings did not occur. That is no error: a few
hundred requests need not meet each.
"""

import json
import re
import sys

import yaml

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
# What of a schema a client may rely on.
FACETS = ["format", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems", "default"]


class Description:
    def __init__(self, path):
        with open(path) as file:
            self.root = yaml.safe_load(file)

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            target = self.root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def operations(self):
        for path, item in self.root["paths"].items():
            for method, operation in item.items():
                if method in METHODS:
                    yield f"{method.upper()} {path}", item, operation

    def flatten(self, schema, place, facts, is_alternative=False):
        """Adds what the schema says, one fact a line: `place`, `place: fact`."""
        schema = self.resolve(schema)
        if "type" in schema and schema["type"] != "array":
            facts.add(f"{place}: {schema['type']}")
        for facet in FACETS:
            # A format that repeats the type says nothing.
            if facet in schema and schema[facet] != schema.get("type"):
                facts.add(f"{place}: {facet} {schema[facet]}")
        for value in schema.get("enum", []):
            facts.add(f"{place}: {value}")
        for part in ["allOf", "anyOf", "oneOf"]:
            for variant in schema.get(part, []):
                if part != "allOf" and "required" in variant:
                    facts.add(f"{place}: or {', '.join(variant['required'])}")
                self.flatten(variant, place, facts, part != "allOf")
        if not is_alternative:
            for key in schema.get("required", []):
                facts.add(f"{place}.{key}: required")
        for key, value in schema.get("properties", {}).items():
            facts.add(f"{place}.{key}")
            self.flatten(value, f"{place}.{key}", facts)
        if "items" in schema:
            self.flatten(schema["items"], f"{place}[]", facts)

    def codes(self, response):
        """The error codes that a response may carry, by its schema or else by its examples."""
        content = self.resolve(response).get("content", {}).get("application/json", {})
        facts = set()
        self.flatten(content.get("schema", {}), "", facts)
        named = {fact.removeprefix(".code: ") for fact in facts if fact.startswith(".code: ")}
        named -= {"string", "required"}
        if not named:
            examples = [content["example"]] if "example" in content else []
            examples += [self.resolve(example)["value"] for example in content.get("examples", {}).values()]
            named = {example["code"] for example in examples if isinstance(example, dict) and "code" in example}
        return named

    def facts(self):
        facts = set()
        for label, item, operation in self.operations():
            facts.add(label)
            for parameter in item.get("parameters", []) + operation.get("parameters", []):
                parameter = self.resolve(parameter)
                place = f"{label}: {parameter['in']} {parameter['name']}"
                facts.add(place)
                self.flatten(parameter["schema"], place, facts)
            for status, response in operation["responses"].items():
                facts.add(f"{label}: {status}")
                for code in self.codes(response):
                    facts.add(f"{label}: {status} {code}")
            for scheme in operation.get("security", self.root["security"]):
                for name, scopes in scheme.items():
                    kind = self.root["components"]["securitySchemes"][name]
                    flow = "/".join(kind.get("flows", {})) or kind.get("scheme", "")
                    facts.add(f"{label}: security {kind['type']} {flow} {' '.join(scopes)}".rstrip())
            for callback in operation.get("callbacks", {}).values():
                for url, target in callback.items():
                    facts.add(f"{label}: callback {url}")
                    body = target["post"]["requestBody"]["content"]["application/json"]["schema"]
                    self.flatten(body, f"{label}: callback {url}", facts)
        for name in ["CreateSession", "SessionInfo", "QosProfile"]:
            self.flatten(self.root["components"]["schemas"][name], name, facts)
        return facts


def difference(released, served):
    """The facts that only one of the two states."""
    theirs, ours = Description(released).facts(), Description(served).facts()
    lines = set()
    for who, lone in [("released", theirs - ours), ("served", ours - theirs)]:
        for fact in lone:
            # What is said of something that only one of them has goes with that.
            wholes = (fact[:end] for end in range(len(fact)) if fact[end] in ":. [")
            if not any(whole in lone for whole in wholes):
                lines.add(f"only {who}: {fact}")
    return lines


def unseen(differences, file):
    """What is listed as found in a run, and was not."""
    with open(file) as lines:
        seen = {line.strip() for line in lines}
    return [
        f"listed and not found: {each['difference']}: {json.dumps(expected)}"
        for each in differences
        for expected in each.get("found", [])
        if json.dumps(expected, sort_keys=True) not in seen
    ]


def main():
    released, served, listed = sys.argv[1:4]
    with open(listed) as file:
        differences = json.load(file)["differences"]
    if len(sys.argv) > 4:
        print("\n".join(unseen(differences, sys.argv[4])) or "every listed finding was found")
        return 0
    there = difference(released, served)
    wrong = []
    for each in differences:
        for pattern in each.get("stated", []):
            # Of regular expressions these lines need the star alone.
            expression = re.compile(re.escape(pattern).replace(r"\*", ".*"))
            fitting = {line for line in there if expression.fullmatch(line)}
            if not fitting:
                wrong.append(f"listed and not there: {each['difference']}: {pattern}")
            each.setdefault("lines", set()).update(fitting)
    explained = set().union(*(each.get("lines", set()) for each in differences))
    wrong += [f"not listed: {line}" for line in sorted(there - explained)]
    print("\n".join([*wrong, f"{len(there)} differences of the two texts, {len(explained)} of them listed"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
