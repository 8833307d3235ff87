from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from cloud_service.compression.checkpoints.prompt import prompt_tokenizer
from cloud_service.compression.errors import CheckpointError

CORPUS = [
    "Classify the text: where is my card?\nLabel: card",
    "Review: the exchange rate is great, thanks 12345!\nSentiment: good",
    "请判断这句话的意思 我的卡在哪里 答案是",
] * 3
TEXTS = ["where is my card", "great rate 42", "我的卡在哪里", "Thanks, the CARD is great", "x", "unseen wörds 🙂 here"]
PROMPTS = [
    "{text}",
    "Review: {text}\nSentiment:",
    "Review:{text} Sentiment:",
    "Classify the text:\n{text}\n\nLabel: ",
    "请判断这句话的意思:{text} 答案是",
    "{text}\nLabel:",
    "<s>Review: {text}\n",
]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[CLS]", "[SEP]", "<s>"])
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>", "<s>"], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As converted from SentencePiece: spaces by normalizers, unknown characters by bytes."""
    base = ["<unk>", "<s>", *[f"<0x{value:02X}>" for value in range(256)]]
    characters = [*sorted(set("".join(CORPUS)) - {" ", "\n"}), "▁"]
    vocabulary = {token: index for index, token in enumerate([*base, *characters, "▁t", "▁th", "▁the", "ar", "ard"])}
    merges = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("a", "r"), ("ar", "d")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte_level": byte_level,
    "wordpiece": wordpiece,
    "metaspace": metaspace,
    "sentencepiece": sentencepiece,
}


@pytest.fixture(params=sorted(KINDS), scope="module")
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    tokenizer = KINDS[request.param]()
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(path))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_are_those_of_the_whole_formatted_string(path: Path, tmp_path: Path, prompt: str) -> None:
    plain = Tokenizer.from_file(str(path))
    plain.no_padding()
    prompted = prompt_tokenizer(path, prompt, 200)
    prompted.tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        whole = plain.encode(prompt.replace("{text}", text)).ids
        assert [*prompted.prefix, *tokenizer.encode(text).ids] == whole, text


def test_what_stands_before_the_text_is_no_token_of_a_text(words: Path) -> None:
    prompted = prompt_tokenizer(words, "Review: {text} is great", 30)
    assert [prompted.tokenizer.id_to_token(token) for token in prompted.prefix] == ["[CLS]", "review", ":"]
    assert prompted.tokenizer.encode("my card").tokens[-3:] == ["is", "great", "[SEP]"]
    assert "review" not in prompted.tokenizer.encode("my card").tokens


def test_truncation_leaves_room_for_the_prompt(path: Path) -> None:
    prompt = "Review: {text}\nSentiment:"
    roomy = prompt_tokenizer(path, prompt, 500)
    whole, after = roomy.tokenizer.encode(" ".join(TEXTS)).ids, len(roomy.tokenizer.encode("a").ids) - 1
    room = len(roomy.prefix) + 8 + after
    short = prompt_tokenizer(path, prompt, room).tokenizer.encode(" ".join(TEXTS)).ids
    assert len(roomy.prefix) + len(short) <= room < len(roomy.prefix) + len(whole)
    assert short[:3] == whole[:3] and short[-2:] == whole[-2:]


def test_another_limit_may_be_set_later(path: Path) -> None:
    tokenizer = prompt_tokenizer(path, "Review: {text}\nSentiment:", 500).tokenizer
    tokenizer.enable_truncation(60)
    encoding = tokenizer.encode(" ".join(TEXTS) * 3)
    assert len(encoding.ids) == 60
    assert encoding.ids[-2:] == tokenizer.encode("a").ids[-2:]


def test_an_edge_inside_a_word_is_cut_there(words: Path) -> None:
    """The whole string would be one word; the text's tokens are its own instead."""
    prompted = prompt_tokenizer(words, "the{text}", 30)
    before = prompted.tokenizer.decode(list(prompted.prefix), skip_special_tokens=False).split()
    tokens = prompted.tokenizer.encode("card").tokens
    assert before[0] == "[CLS]" and tokens[-1] == "[SEP]"
    assert "".join([*before[1:], *tokens[:-1]]).replace("##", "") == "thecard"


@pytest.mark.parametrize("prompt", ["Review:", "{text} or {text}", "{Text}", ""])
def test_a_prompt_has_one_place_for_the_text(words: Path, prompt: str) -> None:
    with pytest.raises(CheckpointError, match="exactly once"):
        prompt_tokenizer(words, prompt, 30)


def test_a_prompt_longer_than_the_limit_is_refused(words: Path) -> None:
    roomy = prompt_tokenizer(words, "Review: {text} card", 50)
    taken = len(roomy.prefix) + len(roomy.tokenizer.encode("a").ids) - 1
    prompt_tokenizer(words, "Review: {text} card", taken + 1)
    with pytest.raises(CheckpointError, match=f"takes {taken} tokens"):
        prompt_tokenizer(words, "Review: {text} card", taken)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        prompt_tokenizer(tmp_path / "tokenizer.json", "{text}", 30)


def test_a_prompt_without_any_border_beside_the_text_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="no token border"):
        prompt_tokenizer(tmp_path / "tokenizer.json", "before {text}", 30)
