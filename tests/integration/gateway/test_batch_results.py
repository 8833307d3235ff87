from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from cloud_service.config import GatewaySettings, ServedModelSettings
from cloud_service.serving.model import FullModel, load_model
from shared.bundle import Tier
from tests.support.gateway_parts import channel_to, question, running_gateway, stub_of
from tests.support.gateway_process import ROOT
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio

FULL_BUNDLE = ROOT / "deploy" / "demo" / "bundles" / "banking77-full"
TEXTS = (
    "card",
    "Why was I charged a fee when I took out cash abroad with my new card last weekend?",
    "My top-up failed twice, and the money has left my account. What happens now, and when do I get it back?",
    "loan cash",
    "exchange rate?",
    "I lost my phone and cannot log in to the app any more, please freeze everything",
    "pin",
    "How long does a transfer to another country take, and does it cost more on a bank holiday?",
)


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> FullModel:
    """The demo's full model where it was built, else the tiny one; padding matters to both."""
    folder: Path = FULL_BUNDLE
    if not (folder / "bundle.json").exists():
        folder = tmp_path_factory.mktemp("bundle") / "tiny"
        write_tiny_bundle(folder, tier=Tier.FULL)
    return load_model(ServedModelSettings(bundle=folder, threads=1))


def test_a_text_in_a_batch_gets_the_logits_that_it_gets_alone(real_model: FullModel) -> None:
    encoded = [real_model.encoder.encode(text) for text in TEXTS]
    assert len({len(ids) for ids in encoded}) > 3
    alone = np.concatenate([real_model.backend.run([ids]) for ids in encoded])
    np.testing.assert_allclose(real_model.backend.run(encoded), alone, atol=1e-4)
    np.testing.assert_allclose(real_model.backend.run(encoded[::-1])[::-1], alone, atol=1e-4)


async def test_concurrent_clients_get_the_scores_that_one_client_gets(real_model: FullModel) -> None:
    name = real_model.identity.name
    async with running_gateway(GatewaySettings(port=0), real_model) as gateway, channel_to(gateway) as channel:
        stub = stub_of(channel)
        alone = [await stub.Infer(question(text, model=name, top_k=3), timeout=10) for text in TEXTS]
        together = await asyncio.gather(
            *(stub.Infer(question(text, model=name, top_k=3), timeout=10) for text in TEXTS * 4)
        )
    assert max(answer.timings.batch_size for answer in together) > 1
    for single, batched in zip(alone * 4, together, strict=True):
        assert batched.top[0].label == single.top[0].label
        assert [item.score for item in batched.top] == pytest.approx([item.score for item in single.top], abs=1e-4)
