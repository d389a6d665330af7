"""The relation of regions: built in, a user's own, and what is wrong with one."""

from pathlib import Path

import pytest

from fleetsim.errors import InputError
from fleetsim.regions import Relation, load_relation, public_regions


def relation_of(folder: Path, text: str, encoding: str = "utf-8") -> Relation:
    path = folder / "pairs.csv"
    path.write_bytes(text.encode(encoding))
    return load_relation(path)


def problems_of(folder: Path, text: str, encoding: str = "utf-8") -> list[str]:
    with pytest.raises(InputError) as caught:
        relation_of(folder, text, encoding)
    return [problem.removeprefix(f"{folder / 'pairs.csv'}: ") for problem in caught.value.problems]


def test_built_in_relation_is_undirected_and_complete():
    relation = load_relation()

    assert relation.paired["westus3"] == "eastus"
    assert relation.paired["eastus"] == "westus"
    assert relation.neighbours("eastus") == {"westus", "westus3"}
    assert {relation.pair_group(region) for region in ("westus", "eastus", "westus3")} == {"eastus"}
    assert relation.neighbours("qatarcentral") == frozenset()
    assert relation.pair_group("qatarcentral") == "qatarcentral"
    assert relation.geography["northeurope"] == "Europe"
    assert all(other in relation.paired for region in relation.regions for other in relation.neighbours(region))


def test_built_in_relation_takes_from_the_api_only_what_the_documentation_lacks():
    relation = load_relation()

    assert (relation.paired["jioindiawest"], relation.geography["jioindiawest"]) == (
        "jioindiacentral",
        "India",
    )
    assert relation.paired["swedensouth"] == "swedencentral"  # in the documentation only


def test_public_regions_are_those_of_the_public_cloud_in_file_order():
    regions = public_regions()

    assert len(regions) == 53
    assert regions[:3] == ["australiacentral", "australiacentral2", "australiaeast"]
    assert regions[-1] == "westus3"
    assert not [region for region in regions if region.startswith(("china", "usgov", "usdod"))]


def test_groups_are_chains_of_pairs_named_after_their_smallest_region(tmp_path):
    relation = relation_of(tmp_path, "region,paired_region\nsouth,north\nnorth,\neast,south\nlone,\n")

    assert [relation.pair_group(region) for region in relation.regions] == ["east", "lone", "east", "east"]
    assert relation.edges == {frozenset({"north", "south"}), frozenset({"east", "south"})}
    assert relation.neighbours("south") == {"north", "east"}


def test_a_users_relation_replaces_the_built_in_one(tmp_path):
    relation = relation_of(tmp_path, "\ufeffgeography,region,paired_region\nHere, a ,b\n\n,b,\n")

    assert relation.regions == ("a", "b")
    assert relation.geography == {"a": "Here", "b": ""}
    assert relation.neighbours("b") == {"a"}


def test_a_relation_survives_its_own_csv(tmp_path):
    built_in = load_relation()
    again = relation_of(tmp_path, built_in.to_csv())

    assert again == built_in
    assert again.digest == built_in.digest
    assert relation_of(tmp_path, "region,paired_region\na,b\nb,\n").digest != built_in.digest


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "no pair column": (
            "region,pared_region\na,b\n",
            [
                "line 1: column 'paired_region' must be there, got region, pared_region;"
                " rename 'pared_region' to 'paired_region'",
            ],
        ),
        "columns in capitals": (
            "REGION,PAIR\na,b\n",
            [
                "line 1: column 'region' must be there, got REGION, PAIR; rename 'REGION' to 'region'",
                "line 1: column 'paired_region' must be there, got REGION, PAIR",
            ],
        ),
        "semicolons": (
            "region;paired_region\na;b\n",
            ["line 1: must be separated by ',', got a header separated by ';'"],
        ),
        "pairs that are not listed": (
            "region,paired_region\nwestus,eatsus\neastus,westus\nmars,moon\nx y,\nb,x y\nlone,lone\nc,lone\n",
            [
                f"line {line}: {problem}"
                for line, problem in (
                    (
                        5,
                        "column 'region': a region name must be letters, digits, '-' or '_'"
                        " with at least one letter, got 'x y'",
                    ),
                    (
                        6,
                        "column 'paired_region': a region name must be letters, digits, '-' or '_'"
                        " with at least one letter, got 'x y'",
                    ),
                    (7, "region 'lone' must not be paired with itself"),
                    (
                        2,
                        "column 'paired_region': must be listed as a region too, got 'eatsus'; did you mean 'eastus'?;"
                        " it may be listed with an empty paired_region",
                    ),
                    (
                        4,
                        "column 'paired_region': must be listed as a region too, got 'moon';"
                        " it may be listed with an empty paired_region",
                    ),
                )
            ],
        ),
        "empty file": (
            "",
            [
                "line 1: column 'region' must be there, got an empty file",
                "line 1: column 'paired_region' must be there, got an empty file",
            ],
        ),
        "no region": ("region,paired_region\n", ["must list at least one region, got none"]),
        "two pairs": (
            "region,paired_region\na,b\na,c\nb,\n",
            ["line 3: region 'a' must be listed once, got another pair or geography than in line 2"],
        ),
        "itself": ("region,paired_region\na,a\n", ["line 2: region 'a' must not be paired with itself"]),
        "ragged": ("region,paired_region\na,b,c\n", ["line 2: must have 2 fields, got 3"]),
        "names, all at once": (
            "region,paired_region\n12,b\nx y,ü\n,b\n",
            [
                f"line {line}: column '{column}': a region name must be letters, digits, '-' or '_'"
                f" with at least one letter, got '{name}'"
                for line, column, name in (
                    (2, "region", "12"),
                    (3, "region", "x y"),
                    (3, "paired_region", "ü"),
                    (4, "region", ""),
                )
            ],
        ),
    }.values(),
)
def test_bad_relations_are_told_line_by_line(tmp_path, text, expected):
    assert problems_of(tmp_path, text) == expected


def test_unreadable_relations_are_told(tmp_path):
    (tmp_path / "bom.csv").touch()
    (tmp_path / "anywhere.csv").touch()
    with pytest.raises(InputError) as caught:
        load_relation(tmp_path / "nope.csv")
    assert caught.value.problems[0].endswith("got: No such file or directory")  # 'bom.csv' is near by suffix only
    with pytest.raises(InputError, match=r"No such file or directory; did you mean '.*anywhere\.csv'\?"):
        load_relation(tmp_path / "nowhere.csv")
    assert "got: it is not UTF-8 text" in problems_of(tmp_path, "region,paired_region\né,\n", "latin-1")[0]
