"""Writes `jars.toml` anew for a version of Kafka: `python -m headrace.broker.relock 4.2.2`. For maintainers.

Resolves the dependency tree through jgo, downloads every jar into a temporary folder and records coordinate,
size and sha256. It trusts what it downloads: read the difference before you commit it. `log4j-slf4j-impl` is
added in the version of Kafka's own log4j, since Kafka's POM does not name it and without it Kafka logs
nothing at all.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from headrace.broker.jars import LockedJar, sha256_of


def resolve(version: str, folder: Path) -> list[LockedJar]:
    """Every jar that Kafka `version` needs at run time, Kafka itself first, downloaded to `folder`."""
    context = MavenContext(resolver=PythonResolver(), repo_cache=folder, timeout=30)
    kafka = context.create_dependency(f"org.apache.kafka:kafka_2.13:{version}:compile")
    _, transitive = context.resolver.resolve([kafka])
    wanted = [("org.apache.kafka", "kafka_2.13", version)]
    wanted += [(d.groupId, d.artifactId, d.version) for d in transitive if d.scope in ("compile", "runtime")]
    logging_version = next(v for _, artifact, v in wanted if artifact == "log4j-core")
    wanted.append(("org.apache.logging.log4j", "log4j-slf4j-impl", logging_version))
    jars = []
    for group, artifact, its_version in wanted:
        path = context.project(group, artifact).at_version(its_version).artifact().resolve()
        jars.append(LockedJar(f"{group}:{artifact}:{its_version}", sha256_of(path), path.stat().st_size))
    return jars


def render(version: str, jars: list[LockedJar]) -> str:
    """The text of `jars.toml`."""
    head = (
        f'# Written by `python -m headrace.broker.relock {version}`. Class-path order.\nkafka = "{version}"\n'
    )
    rows = [
        f'\n[[jar]]\ncoordinate = "{jar.coordinate}"\nsize_bytes = {jar.size_bytes}\nsha256 = "{jar.sha256}"\n'
        for jar in jars
    ]
    return head + "".join(rows)


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m headrace.broker.relock KAFKA_VERSION\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        text = render(arguments[0], resolve(arguments[0], Path(folder)))
    Path(__file__).with_name("jars.toml").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
