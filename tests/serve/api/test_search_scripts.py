"""The gallery's search in every script: by parts where there are no spaces, without accents."""

from __future__ import annotations

import httpx2
import pytest
from alembic import command
from sqlalchemy import text

from serve.api.services import Services
from serve.migrations.upgrade import _config, upgrade
from tests.conftest import query
from tests.serve.api.drawing import Desk
from tests.serve.api.test_search import found

PROMPTS = {
    "cat": "可愛い猫の絵。赤い花",
    "capital": "東京都の夜景",
    "kyoto": "京都の寺",
    "simplified": "一只可爱的猫在睡觉",
    "half": "ｶﾞｰﾃﾞﾝのﾈｺ",
    "korean": "귀여운 고양이가 잔다",
    "thai": "แมวน่ารักนอนหลับ",
    "french": "Un café à l’Élysée — naïve",
    "polish": "Żółta łódka w Łodzi",
    "german": "Eine große Straße, Ærø",
    "vietnamese": "Một con mèo đỏ",
    "wide": "ＮＥＯＮ　ｃｉｔｙ　２０７７",
    "quoted": "a sign that says “open late”",
    "emoji": "party🐱time",
    "greek": "ΚΌΚΚΙΝΗ καρδιά ΦΩΣ",
    "arabic": "قِطَّةٌ حمراء",
    "hebrew": "חָתוּל אדום",
    "hindi": "लाल बिल्ली",
    "composed": "cafe\u0301 noir",
}
FOUND: list[tuple[str, set[str]]] = [
    ("猫", {"cat", "simplified"}),
    ("可愛い猫", {"cat"}),
    ("可愛", {"cat"}),
    ("愛可", set()),
    ("京都", {"capital", "kyoto"}),
    ("都京", set()),
    ("京都 -東京", {"kyoto"}),
    ("寺 or 花", {"kyoto", "cat"}),
    ("寺 ｏｒ 花", {"kyoto", "cat"}),
    ('"赤い花"', {"cat"}),
    ("「赤い花」", {"cat"}),
    ("猫　花", {"cat"}),
    ("猫。", {"cat", "simplified"}),
    ("ガーデン", {"half"}),
    ("ネコ", {"half"}),
    ("고양이", {"korean"}),
    ("양이가 잔", {"korean"}),
    ("แมว", {"thai"}),
    ("น่ารัก", {"thai"}),
    ("cafe", {"french", "composed"}),
    ("CAFÉ", {"french", "composed"}),
    ("elysee", {"french"}),
    ("naive", {"french"}),
    ("zolta lodka", {"polish"}),
    ("łódka", {"polish"}),
    ("strasse grosse", {"german"}),
    ("STRASSE", {"german"}),
    ("aero", {"german"}),
    ("meo do", {"vietnamese"}),
    ("mèo đỏ", {"vietnamese"}),
    ("neon CITY 2077", {"wide"}),
    ("ｎｅｏｎ", {"wide"}),
    ("open", {"quoted"}),
    ("“open late”", {"quoted"}),
    ("“late open”", set()),
    ("🐱", {"emoji"}),
    ("party", {"emoji"}),
    ("κόκκινη", {"greek"}),
    ("καρδια φως", {"greek"}),
    ("قطة", {"arabic"}),
    ("חתול", {"hebrew"}),
    ("बिल्ली", {"hindi"}),
    ("। 。 — “” 「」", set()),
]


@pytest.fixture
async def drawn(client: httpx2.AsyncClient, services: Services) -> dict[str, str]:
    """Ids by name."""
    ids: dict[str, str] = {}
    for name, prompt in PROMPTS.items():
        answer = await client.post("/v1/jobs", json={"prompt": prompt})
        ids[name] = answer.json()["images"][0]["id"]
    desk = Desk(services)
    while claims := await desk.claim():
        for claim in claims:
            await desk.finish(claim)
    return ids


async def test_every_script_is_found(
    client: httpx2.AsyncClient, drawn: dict[str, str], subtests: pytest.Subtests
) -> None:
    for words, names in FOUND:
        with subtests.test(words):
            assert set(await found(client, drawn, q=words)) == names


async def test_the_words_of_older_jobs_are_folded(
    client: httpx2.AsyncClient,
    services: Services,
    drawn: dict[str, str],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As they were written before, then migrated; what is folded once stays so."""
    monkeypatch.setattr("serve.answer_cache.KEPT_S", 0)  # rows change behind the service's back
    async with services.database.transaction() as session:
        old = "UPDATE jobs SET prompt_words = to_tsvector('simple', params->>'prompt')"
        await session.execute(text(old))
    assert await found(client, drawn, q="猫") == []
    async with services.database.engine.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(_config(sync), "0011"))
    query(database_url, "UPDATE alembic_version SET version_num = '0010'")
    for _ in range(2):
        await upgrade(database_url)
        assert set(await found(client, drawn, q="猫")) == {"cat", "simplified"}
        assert set(await found(client, drawn, q="cafe")) == {"french", "composed"}
        assert await found(client, drawn, q="neon") == ["wide"]


async def test_what_the_version_before_writes_is_found(
    client: httpx2.AsyncClient, services: Services, drawn: dict[str, str]
) -> None:
    """It knows nothing of the trigger, nor does whoever mends a row by hand."""
    async with services.database.transaction() as session:
        changed = text("""
            UPDATE jobs SET params = jsonb_set(params, '{prompt}', '"犬とcafé"')
            WHERE params->>'prompt' = '京都の寺'""")
        await session.execute(changed)
    assert await found(client, drawn, q="犬") == ["kyoto"]
    assert await found(client, drawn, q="寺") == []
    assert set(await found(client, drawn, q="cafe")) == {"french", "composed", "kyoto"}
