"""Run Athena's statements in DuckDB, over files, for the environment that has it.

Takes {"tables": SQL, "queries": [SQL, ...], "root": DIRECTORY} from standard input and prints the rows of each query as
JSON. Only what must be is translated: a table's location becomes files under `root`, Hive's types DuckDB's, and a
function that has another name or form gets that of Athena. The queries are run as they stand.
"""

import json
import re
import sys
from typing import Any

import duckdb

_TYPES = {"string": "VARCHAR", "bigint": "BIGINT", "int": "INTEGER", "double": "DOUBLE", "boolean": "BOOLEAN"}
_FUNCTIONS = """
CREATE MACRO from_iso8601_timestamp(text) AS CAST(replace(text, 'Z', '') AS TIMESTAMP);
CREATE MACRO date_parse(text, format) AS
    CASE format WHEN '%a, %d %b %Y %H:%i:%s +0000' THEN strptime(text, '%a, %d %b %Y %H:%M:%S +0000') END;
CREATE MACRO approx_percentile(value, share) AS quantile_cont(value, share);
"""


def main() -> None:
    """Answer standard input on standard output."""
    given = json.load(sys.stdin)
    with duckdb.connect() as connection:
        connection.execute(_FUNCTIONS)
        for statement in re.findall(r"CREATE EXTERNAL TABLE .*?;", given["tables"], re.DOTALL):
            connection.execute(view(statement, given["root"]))
        answers = [rows(connection.execute(query)) for query in given["queries"]]
    json.dump(answers, sys.stdout, default=str)


def rows(answer: Any) -> list[dict[str, Any]]:
    """Return the rows of an answer, each by the names of its columns."""
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def view(statement: str, root: str) -> str:
    """Return the view that shows what an external table would."""
    match = re.match(r"CREATE EXTERNAL TABLE (\w+) \((.*?)\n\)\nPARTITIONED BY \((.*?)\)\n", statement, re.DOTALL)
    location = re.search(r"'storage.location.template' =\s*'s3://[^/]+/([^']+)'", statement)
    assert match is not None
    assert location is not None
    columns = ", ".join(f"{_quoted(name)}: '{_type(kind)}'" for name, kind in _fields(match[2]))
    partitions = ", ".join(f"'{name}': {_type(kind)}" for name, kind in _fields(match[3]))
    files = re.sub(r"\$\{\w+\}", "*", location[1]) + "*.json"
    options = f"columns = {{{columns}}}, hive_partitioning = true, hive_types = {{{partitions}}}"
    read = f"read_json('{root}/{files}', format = 'newline_delimited', {options})"
    return f"CREATE VIEW {match[1]} AS FROM {read}"


def _fields(text: str) -> list[tuple[str, str]]:
    """Split `name type, name type` or `name: type, ...` at the commas that are not within a type."""
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    pairs = [re.match(r"\s*`?(\w+)`?:?\s+(.*)", each, re.DOTALL) for each in (*parts, part)]
    return [(pair[1], pair[2].strip()) for pair in pairs if pair]


def _type(kind: str) -> str:
    if match := re.fullmatch(r"struct<(.*)>", kind, re.DOTALL):
        return "STRUCT({})".format(", ".join(f'"{name}" {_type(inner)}' for name, inner in _fields(match[1])))
    return _TYPES[kind]


def _quoted(name: str) -> str:
    return f"'{name}'"


if __name__ == "__main__":
    main()
