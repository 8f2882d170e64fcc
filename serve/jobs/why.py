"""Why an autonomous job draws what it draws: kept in ``jobs.why``, and shown as it is."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Choice(BaseModel):
    """One choice of the prompt's."""

    slot: str = Field(examples=["subject"])
    choice: str = Field(examples=["heart"])
    by: str = Field(
        description="`trend`: it is asked for or liked lately; `exploration`: trends were left out;"
        " `weight`: trends know nothing of it; `theme`: the theme is its text.",
        examples=["trend"],
    )
    share: float = Field(
        description="How likely it was, among what could be chosen.", examples=[0.12]
    )
    reason: str = Field(
        description="All of this in a sentence.",
        examples=[
            "Chosen by trend, 12% likely among 111. By weight alone it was 1% likely; heart has a"
            " score of 14.2 and a rise of 4.1."
        ],
    )


class Verdict(BaseModel):
    """Which picture was kept."""

    kept: int = Field(description="The picture's index.", examples=[1])
    scores: dict[int, float] = Field(
        description="Of each picture, by index; the highest is kept.", examples=[{0: 9.1, 1: 9.4}]
    )


class Why(BaseModel):
    """Every choice of an autonomous job."""

    theme: str | None = Field(examples=["love"])
    grammar: str = Field(description="The file that has the words.", examples=["grammar.toml"])
    exploration: float = Field(
        description="The share of choices that leave trends out.", examples=[0.25]
    )
    choices: list[Choice]
    avoided: list[str] = Field(
        description="Prompts that were thought of first, and had been drawn before.",
        examples=[["a red heart"]],
    )
    verdict: Verdict | None = Field(None, description="Set once its pictures are drawn.")
