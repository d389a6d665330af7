"""The colours of the page, each once, in light and in dark.

Charts are drawn in the light ones, as files and on paper; on a dark screen the page's style sheet puts the dark one in
the place of each. So a colour means one thing, and no two have the same light value.
"""

INK, MUTED, RULE, PAPER, STRIPE = "#1b1f24", "#59626d", "#d9dee4", "#ffffff", "#f3f5f8"
LAND = "#e7eaee"
WORK, GAP, SPREAD, CAP, WAIT = "#1f6fb2", "#e08a1e", "#98a3b0", "#8a4fbf", "#c3cad3"
DOWN, UPDATED, PENDING = "#c8372d", "#2c8a57", "#f2cf9a"
IDLE = "#a9adb3"
"""Of what was never at work."""
CUSTOMERS, SCHEDULED, NOTICE = "#b9dfc9", "#bcd3ec", "#e4e0cf"
CAMPAIGNS = (WORK, DOWN, UPDATED, CAP, "#0f8f94", "#7a5c2e")
"""Of the campaigns of a run, in file order; more of them begin anew."""
STEPS = ("#e3eefa", "#c6dcf1", "#9fc5e6", "#6da8d6", "#3f88c2", "#2168a4", "#0d4577")
"""From few to many."""

DARK = {
    INK: "#e8eaed",
    MUTED: "#a6aeb8",
    RULE: "#363d45",
    PAPER: "#15181c",
    STRIPE: "#1c2126",
    LAND: "#262c33",
    WORK: "#5aa9e6",
    GAP: "#f0a94b",
    SPREAD: "#77828f",
    CAP: "#b98ae6",
    WAIT: "#4a525c",
    DOWN: "#ff7b70",
    UPDATED: "#5cc48a",
    PENDING: "#7a5a24",
    IDLE: "#5d646c",
    CUSTOMERS: "#24523a",
    SCHEDULED: "#2a4666",
    NOTICE: "#3b392c",
    CAMPAIGNS[4]: "#4cc7cc",
    CAMPAIGNS[5]: "#c9a46a",
    STEPS[0]: "#1a2836",
    STEPS[1]: "#1d3a54",
    STEPS[2]: "#225478",
    STEPS[3]: "#2c709f",
    STEPS[4]: "#4690c4",
    STEPS[5]: "#76b3df",
    STEPS[6]: "#b5daf5",
}


def style_sheet() -> str:
    """CSS variables of both, and what turns charts dark, on screens that ask for it; paper stays light."""
    names = {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER, "stripe": STRIPE, "work": WORK, "down": DOWN}
    names["shade"] = WAIT
    names |= {"updated": UPDATED, "gap": GAP}
    light = "".join(f"--{name}:{colour};" for name, colour in names.items())
    dark = "".join(f"--{name}:{DARK[colour]};" for name, colour in names.items())
    charts = "".join(
        f'.chart [fill="{colour}"]{{fill:{other}}}.chart [stroke="{colour}"]{{stroke:{other}}}\n'
        for colour, other in DARK.items()
    )
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}\n{charts}}}\n"
