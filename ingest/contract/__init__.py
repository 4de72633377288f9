"""The language that every part speaks: what a click, a name, a thing, a month and a refusal are."""
