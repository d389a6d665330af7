"""The page of a sweep: what its campaigns take and harm, case by case, in charts and tables."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import polars as pl

from fleetsim.errors import InputError
from fleetsim.figures import FIGURES, pause_ms
from fleetsim.page.document import block_of, figure_of, html_of
from fleetsim.page.drawing import Chart
from fleetsim.page.palette import CAMPAIGNS, IDLE, MUTED, UPDATED, WORK
from fleetsim.responses import EFFORT, Sweep, asked_in_words, short_keys

_FRONT, _OTHER, _BEST = "no other has less of both", "another has less of both", "the best, as asked for"
_WITHIN, _BEYOND = "within all limits", "beyond a limit"
CASES_DRAWN = 2_000
VALUES_DRAWN = 40
"""Values of a key that a response is drawn over."""
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))


def page_of_sweep(made: Sweep) -> str:
    """The HTML of *made*."""
    blocks = list(made.blocks())
    charts = {campaign: _charts(made, campaign, place) for place, campaign in enumerate(made.campaigns)}
    parts = [block_of(blocks[0])]
    for (campaign, drawn), table in zip(charts.items(), blocks[1:], strict=True):
        if len(charts) > 1:
            parts.append(f'<h2 class="campaign">{escape(campaign)}</h2>')
        parts += [figure_of(chart, writes=" of") for chart in drawn]
        parts.append(block_of(table))
    title = f"{made.path.name}: {len(made.cases):,} cases"
    return html_of(title, f"<h1>{escape(title)}</h1>", f'<main id="main">{"".join(parts)}</main>')


def _charts(made: Sweep, campaign: str, place: int) -> list[Chart]:
    harm = made.harm_of(campaign)
    figures = [EFFORT, *([harm] if harm is not None else [])]
    rows = made.wide(campaign, figures).head(CASES_DRAWN)
    if not len(rows):
        return []
    charts = [_front(made, campaign, harm, rows, place)] if harm is not None else []
    for number, key in enumerate(made.keys):
        values = rows[key].unique().drop_nulls()
        if made.search is not None and made.best is not None:
            charts += [_searched(made, key, figure, rows, f"{place}-{number}") for figure in figures if len(values) > 1]
            continue
        if not 2 <= len(values) <= VALUES_DRAWN:
            continue
        for figure in figures:
            if _responds(rows, figure, _without(made.keys, key)):
                charts.append(_response(made, campaign, key, figure, rows, f"{place}-{number}"))
    return charts


def _without(keys: Sequence[str], key: str) -> list[str]:
    return [other for other in keys if other != key]


def _idle(rows: pl.DataFrame, figure: str, keys: Sequence[str], key: str) -> list[str]:
    """Those of the other *keys* that *figure* does not respond to, alone or together, in cases that tell."""
    idle: list[str] = []
    for other in _without(keys, key):
        alike = _without(keys, other)
        is_told = bool((rows.group_by(alike).len()["len"] > 1).any())
        if is_told and not _responds(rows, figure, [each for each in alike if each not in idle]):
            idle.append(other)
    return idle


def _responds(rows: pl.DataFrame, figure: str, others: Sequence[str]) -> bool:
    """Whether *figure* differs by more than 0.1 % between cases that are alike in the *others* of the keys."""
    alike = rows.group_by(others or pl.lit(1).alias("one")).agg(
        least=pl.col(figure).min(), most=pl.col(figure).max()
    )  # fmt: skip
    return bool(alike.select((pl.col("most") > pl.col("least") * 1.001).any()).item())


def _front(made: Sweep, campaign: str, harm: str, rows: pl.DataFrame, place: int) -> Chart:
    """Each case by its length and what it harms; those that no other beats in both are joined."""
    front = made.front_of(campaign, harm)
    per_length, length_unit = _unit_of(rows, EFFORT)
    per_harm, harm_unit = _unit_of(rows, harm)
    is_front = pl.col("case").is_in(front)
    best_case = None if made.best is None else made.best_case
    frame = rows.select(
        "case",
        asked=pl.Series([_asked(made, row) for row in rows.iter_rows(named=True)]),
        x=pl.col(EFFORT) / per_length,
        y=pl.col(harm) / per_harm,
        what=pl.when(pl.col("case").eq_missing(best_case))
        .then(pl.lit(_BEST))
        .when(is_front)
        .then(pl.lit(_FRONT))
        .otherwise(pl.lit(_OTHER)),
    ).sort(pl.col("what") != _OTHER)  # those that matter are drawn last

    def draw(width: int, is_narrow: bool) -> Any:
        import altair as alt

        x = alt.X("x:Q", title=f"{EFFORT}, {length_unit}", scale=alt.Scale(zero=False, nice=True))
        y = alt.Y("y:Q", title=f"{harm}{harm_unit and f', {harm_unit}'}", scale=alt.Scale(zero=False, nice=True))
        words = [_FRONT, _OTHER, *([] if best_case is None else [_BEST])]
        colour = alt.Color(
            "what:N", title=None, scale=alt.Scale(domain=words, range=[WORK, IDLE, UPDATED][: len(words)]),
            legend=alt.Legend(columns=1 if is_narrow else 3),
        )  # fmt: skip
        data = {"values": frame.to_dicts()}
        line = alt.Chart(data).transform_filter(alt.FieldOneOfPredicate("case", front)).mark_line(
            color=WORK, interpolate="step-after", opacity=0.6
        ).encode(x=x, y=y)  # fmt: skip
        points = alt.Chart(data).mark_circle(size=70, opacity=0.9).encode(
            x=x, y=y, color=colour, description="asked:N"
        )  # fmt: skip
        labels = (
            alt.Chart(data)
            .transform_filter(f"datum.what != '{_OTHER}'")
            .mark_text(align="left", dx=7, dy=-7, color=MUTED)
            .encode(x=x, y=y, text="case:O")
        )
        return alt.layer(line, points, labels).properties(height=300)

    best = ", ".join(f"case {case} ({_asked(made, rows.row(by_predicate=pl.col('case') == case, named=True))})"
                     for case in front[:6])  # fmt: skip
    more = f" and {len(front) - 6} more" if len(front) > 6 else ""
    text = f"Of {len(rows):,} cases no other takes less time and has less {harm} than {best}{more}."
    return Chart(f"front-{place}", "front", f"{campaign}: its length against {harm}", text, frame, draw)


def _response(made: Sweep, campaign: str, key: str, figure: str, rows: pl.DataFrame, number: str) -> Chart:
    """How *figure* responds to *key*, a line for each setting of the other keys that it responds to."""
    idle = _idle(rows, figure, made.keys, key)  # whose lines would lie on one another
    others = [other for other in _without(made.keys, key) if other not in idle]
    short = short_keys(made.keys)
    per_unit, unit = _unit_of(rows, figure)
    order = _in_order(rows[key].unique(maintain_order=True).drop_nulls().to_list())
    settings = pl.Series([_asked(made, row, others) for row in rows.iter_rows(named=True)])
    frame = (
        rows.with_columns(settings.alias("setting"))
        .group_by(pl.col(key).alias("value"), "setting", maintain_order=True)
        .agg(
            figure=pl.col(figure).mean() / per_unit,
            low=pl.col(f"{figure}_p05").min() / per_unit,
            high=pl.col(f"{figure}_p95").max() / per_unit,
        )
        .drop_nulls("value")
    )
    drawn = frame["setting"].unique(maintain_order=True).to_list()[: len(CAMPAIGNS)]
    frame = frame.filter(pl.col("setting").is_in(drawn))

    def draw(width: int, is_narrow: bool) -> Any:
        import altair as alt

        x = alt.X("value:O", title=short[key], sort=order, axis=alt.Axis(labelAngle=0 if not is_narrow else -40))
        y = alt.Y("figure:Q", title=f"{figure}{unit and f', {unit}'}", scale=alt.Scale(zero=False, nice=True))
        title = ", ".join(short[other] for other in others) or None
        colour = alt.Color(
            "setting:N", title=title, sort=drawn, scale=alt.Scale(domain=drawn, range=list(CAMPAIGNS[: len(drawn)])),
            legend=alt.Legend(columns=1 if is_narrow else 3) if others else None,
        )  # fmt: skip
        data = {"values": frame.to_dicts()}
        lines = alt.Chart(data).mark_line(point=True).encode(x=x, y=y, color=colour)
        bands = alt.Chart(data).mark_rule().encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q", color=colour)
        return alt.layer(bands, lines).properties(height=260)

    ends = [frame.filter(pl.col("value") == each)["figure"].mean() or 0.0 for each in (order[0], order[-1])]
    spoken = [f"{float(each):,.3g}{unit and f' {unit}'}" for each in ends]  # type: ignore[arg-type]
    text = (
        f"Mean {figure} from {spoken[0]} at {short[key]} {order[0]} to {spoken[1]} at {order[-1]}; bars go from p05"
        " to p95 of the draws."
    )
    if idle:
        text += f" {' and '.join(short[each] for each in idle)} change{'s' if len(idle) == 1 else ''} nothing of it."
    if rows[key].is_null().any():
        text += " Cases that leave it as it is are not drawn."
    left_out = settings.n_unique() - len(drawn)
    if left_out > 0:
        text += f" {left_out:,} settings of the other keys have no line here; the table has them."
    return Chart(f"response-{number}-{figure}", "responses", f"{figure} by {short[key]}", text, frame, draw)


def _searched(made: Sweep, key: str, figure: str, rows: pl.DataFrame, number: str) -> Chart:
    """*figure* of each case of a search by its *key*: few are alike in the other keys, so no line joins them."""
    assert made.best is not None
    name = short_keys(made.keys)[key]
    per_unit, unit = _unit_of(rows, figure)
    order = _in_order(rows[key].unique(maintain_order=True).to_list())
    within = pl.col("case").is_in(made.cases_within)
    frame = rows.select(
        "case",
        asked=pl.Series([_asked(made, row) for row in rows.iter_rows(named=True)]),
        value=pl.col(key),
        figure=pl.col(figure) / per_unit,
        low=pl.col(f"{figure}_p05") / per_unit,
        high=pl.col(f"{figure}_p95") / per_unit,
        what=pl.when(pl.col("case").eq_missing(made.best_case))
        .then(pl.lit(_BEST))
        .when(within)
        .then(pl.lit(_WITHIN))
        .otherwise(pl.lit(_BEYOND)),
    ).sort(pl.col("what").replace_strict({_BEYOND: 0, _WITHIN: 1, _BEST: 2}))  # those that matter are drawn last

    def draw(width: int, is_narrow: bool) -> Any:
        import altair as alt

        axis = alt.Axis(labelAngle=0 if not is_narrow else -40, labelOverlap=True)
        x = alt.X("value:O", title=name, sort=order, axis=axis)
        y = alt.Y("figure:Q", title=f"{figure}{unit and f', {unit}'}", scale=alt.Scale(zero=False, nice=True))
        words = [_WITHIN, _BEYOND, *([] if made.best_case is None else [_BEST])]
        colour = alt.Color(
            "what:N", title=None, scale=alt.Scale(domain=words, range=[WORK, IDLE, UPDATED][: len(words)]),
            legend=alt.Legend(columns=1 if is_narrow else 3),
        )  # fmt: skip
        data = {"values": frame.to_dicts()}
        points = alt.Chart(data).mark_circle(size=70, opacity=0.9).encode(
            x=x, y=y, color=colour, description="asked:N"
        )  # fmt: skip
        bands = alt.Chart(data).mark_rule().encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q", color=colour)
        return alt.layer(bands, points).properties(height=260)

    count = int(frame.select((pl.col("what") != _BEYOND).sum()).item())
    text = (
        f"Each of {len(frame):,} cases, of which {count:,} are within all limits; bars go from p05 to p95 of the draws."
    )
    if made.best_case is not None:
        best = rows.row(by_predicate=pl.col("case") == made.best_case, named=True)
        text += f" The best has {name} {best[key]}."
    return Chart(f"response-{number}-{figure}", "responses", f"{figure} by {name}", text, frame, draw)


def _unit_of(rows: pl.DataFrame, figure: str) -> tuple[int, str]:
    """The unit that fits the largest value of *figure*: what makes one, and its word; nothing where it is no time."""
    unit, most = FIGURES[figure].unit, float(rows[figure].max() or 0)  # type: ignore[arg-type]
    if unit not in ("ms", "VM-ms"):
        return 1, ""
    unit_ms, word = next(((unit_ms, word) for unit_ms, word in _UNITS if most >= 2 * unit_ms), _UNITS[-1])
    return unit_ms, unit.removesuffix("ms") + word


def _in_order(values: Sequence[str]) -> list[str]:
    """*values* from the least to the largest, where all are lengths or numbers; else as they are asked for."""
    try:
        return sorted(values, key=lambda value: float(value) if re.fullmatch(r"-?[\d.]+", value) else pause_ms(value))
    except InputError:
        return list(values)


def _asked(made: Sweep, row: dict[str, Any], keys: Sequence[str] | None = None) -> str:
    return asked_in_words({key: row[key] for key in (made.keys if keys is None else keys)}, made.keys)
