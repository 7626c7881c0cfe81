#!/usr/bin/env python3
"""Cuts what the test forge is held against out of the vendors' own descriptions of their interfaces.

    python3 tests/tools/forge_descriptions.py

writes tests/fixtures/forges/*.json. Each is what a vendor publishes under the MIT licence, without all that no test asks
for: other operations and events, descriptions, examples. The sources are pinned, so that running it again changes nothing.
"""

import hashlib
import io
import json
import pathlib
import tarfile
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/fixtures/forges"

SOURCES = {
    "github": {
        "url": "https://registry.npmjs.org/@octokit/openapi/-/openapi-23.0.2.tgz",
        "sha256": "71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c",
        "member": "package/generated/api.github.com.json",
    },
    "forgejo": {
        "url": "https://static.crates.io/crates/forgejo-api/forgejo-api-0.12.0.crate",
        "sha256": "1597f08c98eed3f55fedcfeee8b005f9e617dab3c61393a2d8ce437181ad5d0b",
        "member": "forgejo-api-0.12.0/swagger.v1.json",
    },
}

# What GitHub itself shows of its webhooks; the first example of each of these.
EXAMPLES = {
    "url": "https://registry.npmjs.org/@octokit/webhooks-examples/-/webhooks-examples-7.6.1.tgz",
    "sha256": "89e6cb1c6345d32e3dd775617fa54effbdc26c859e514898d7728e95e9738280",
    "member": "package/api.github.com/index.json",
}
EVENTS = ["ping", "push", "pull_request", "pull_request_review", "issue_comment"]

# What the adapters ask for, below a repository unless it begins with a slash.
ASKED = {
    "github": {
        "/user": ["get"], "": ["get"], "/pulls": ["get", "post"], "/pulls/{pull_number}": ["get", "patch"],
        "/pulls/{pull_number}/merge": ["put"], "/pulls/{pull_number}/reviews": ["get"],
        "/issues/{issue_number}/comments": ["get", "post"], "/issues/{issue_number}/labels": ["get", "put"],
        "/issues/comments/{comment_id}": ["patch"], "/issues/comments/{comment_id}/reactions": ["post"],
        "/labels": ["post"], "/statuses/{sha}": ["post"], "/commits/{ref}/status": ["get"],
        "/collaborators/{username}/permission": ["get"],
        "/hooks": ["get", "post"], "/hooks/{hook_id}": ["patch"], "/hooks/{hook_id}/pings": ["post"],
        "/rulesets": ["get", "post"], "/rulesets/{ruleset_id}": ["put"], "/rules/branches/{branch}": ["get"],
        "/branches/{branch}": ["get"],
        "/app": ["get"], "/installation": ["get"], "/app/installations/{installation_id}/access_tokens": ["post"],
    },
    "forgejo": {
        "/user": ["get"], "/version": ["get"], "": ["get"], "/pulls": ["get", "post"],
        "/pulls/{index}": ["get", "patch"], "/pulls/{index}/merge": ["post"], "/pulls/{index}/reviews": ["get"],
        "/issues/{index}/comments": ["get", "post"], "/issues/{index}/labels": ["get", "put"],
        "/issues/comments/{id}": ["patch"], "/issues/comments/{id}/reactions": ["post"], "/labels": ["get", "post"],
        "/statuses/{sha}": ["get", "post"], "/collaborators/{collaborator}/permission": ["get"],
        "/assignees": ["get"],
        "/teams": ["get"],
        "/hooks": ["get", "post"], "/hooks/{id}": ["patch"], "/hooks/{id}/tests": ["post"],
        "/branch_protections": ["get", "post"], "/branch_protections/{name}": ["patch"], "/branches/{branch}": ["get"],
    },
}

GLOBAL = {"/user", "/version", "/app", "/app/installations/{installation_id}/access_tokens"}
WORDS_ALONE = {"description", "summary", "example", "examples", "externalDocs", "tags", "x-github", "title", "deprecated"}


def fetch(source):
    with urllib.request.urlopen(source["url"]) as answer:
        archive = answer.read()
    digest = hashlib.sha256(archive).hexdigest()
    if digest != source["sha256"]:
        raise SystemExit(f"{source['url']} has the SHA-256 {digest}, not {source['sha256']}")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return json.load(tar.extractfile(source["member"]))


def bare(node, inside_properties=False):
    """A node without what only people read."""
    if isinstance(node, list):
        return [bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    # A property may be called `description`.
    kept = {key: value for key, value in node.items() if inside_properties or key not in WORDS_ALONE and not key.startswith("x-")}
    return {key: bare(value, key in ("properties", "definitions", "schemas")) for key, value in kept.items()}


def references(node):
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)


def at(document, reference):
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def put(document, reference, value):
    *path, last = reference.removeprefix("#/").split("/")
    for part in path:
        document = document.setdefault(part, {})
    document[last] = value


def cut(whole, asked):
    document = {key: whole[key] for key in ("openapi", "swagger", "basePath") if key in whole}
    document["info"] = {key: whole["info"][key] for key in ("title", "version", "license") if key in whole["info"]}
    document["paths"] = {}
    for path, methods in asked.items():
        full = path if path in GLOBAL else "/repos/{owner}/{repo}" + path
        document["paths"][full] = {method: bare(whole["paths"][full][method]) for method in methods}
    todo, done = list(references(document)), set()
    while todo:
        reference = todo.pop()
        if reference in done:
            continue
        done.add(reference)
        value = bare(at(whole, reference))
        put(document, reference, value)
        todo.extend(references(value))
    return document


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        document = cut(fetch(source), ASKED[name])
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        (FOLDER / f"{name}.json").write_text(text + "\n")
        print(f"{name}: {document['info']['version']}, {len(text)} bytes")
    events = {event["name"]: event["examples"][0] for event in fetch(EXAMPLES) if event["name"] in EVENTS}
    text = json.dumps(events, sort_keys=True, separators=(",", ":"))
    (FOLDER / "github-webhooks.json").write_text(text + "\n")
    print(f"webhooks of github: {len(events)}, {len(text)} bytes")


if __name__ == "__main__":
    main()
