"""
Scores of a model that reads a text and a video together, such as a cross-encoder: one number a pair.

Such a pair scorer has three methods, and no embeddings:

- `prepare_videos(pixel_values_videos)` → `[videos, …]`: all that depends on the videos alone;
- `prepare_texts(input_ids)` → `[texts, …]`: the same for texts of equal length, without padding;
- `score_pairs(videos, texts)` → `[pairs]`: log-odds of a match. Row i of both arguments is pair i.

So a video is encoded once, however many texts it is scored with. All videos of a batch have one shape.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from hf_videolang.data.batches.retrieval import RetrievalCollator
from hf_videolang.evaluation.loader import Progress, evaluation_loader
from hf_videolang.evaluation.retrieval import RetrievalEvaluator, score_similarity
from hf_videolang.evaluation.scores import Scores

PAIRS = "pair_scores"  # the folder of the finished parts
ELEMENTS = 2**26  # of what is prepared for the pairs that are scored at once; more of them fill no device better


def is_pair_scorer(model: nn.Module) -> bool:
    """Whether a model scores pairs; otherwise it embeds videos and texts."""
    return hasattr(model, "score_pairs")


class PairScoringEvaluator(RetrievalEvaluator):
    """
    Score a pair scorer on videos with captions: every caption with every video, in both directions.

    The scores are raw. They are no cosines, so DSL and QB-Norm do not apply.

    Args:
        processor, options: as of [`RetrievalEvaluator`]. Batches are kept in the folder `pair_scores`.
        cache_gigabytes (defaults to 4): of prepared videos and of prepared texts. With less, texts are prepared more
            often, and fewer videos are scored together. A batch of pixels comes on top: lower `batch_size` for it.

    Attributes, after a call: those of [`RetrievalEvaluator`], where `similarity` holds log-odds.

    Example:
        >>> model, processor = load_model_and_processor("runs/clipbert")
        >>> records, protocol = load_dataset("msrvtt-1ka", "/data/msrvtt")
        >>> scores = PairScoringEvaluator(processor, num_workers=4)(model, records, Accelerator())
    """

    similarity = "log-odds of pairs"

    def __init__(self, processor: Any, *, cache_gigabytes: float = 4.0, **options):
        if options.get("querybank") is not None:
            raise ValueError("QB-Norm is made for cosines, but a pair scorer has none; leave the querybank out.")
        super().__init__(processor, **options)
        self.is_cosine = False
        self.cache_bytes = int(cache_gigabytes * 1e9)

    def __call__(
        self, model: nn.Module, records: Any, accelerator: Accelerator, progress: Progress | None = None
    ) -> Scores:
        """Arguments, result and errors are those of [`RetrievalEvaluator`]."""
        scores = self.score(model, records, accelerator, progress=progress)
        seen = ~scores.isnan().all(dim=0)
        if not seen.any():
            raise ValueError(f"none of the {len(seen)} videos decodes; `hf-videolang data check` says why.")
        labels = torch.arange(len(seen)).repeat_interleave(
            torch.tensor([len(texts) for texts in records["captions"][:]])
        )
        texts = seen[labels]
        labels = (seen.cumsum(0) - 1)[labels[texts]]
        self.rows = seen.nonzero()[:, 0].tolist()
        self.tensors = {"similarity": scores[texts][:, seen], "labels": labels, "is_cosine": torch.tensor(False)}
        self.settings = self.describe(accelerator, len(seen) - len(self.rows))
        return score_similarity(**self.tensors, ties=self.ties)

    @torch.no_grad()
    def score(
        self,
        model: nn.Module,
        records: Any,
        accelerator: Accelerator,
        wanted: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """
        Score pairs, on however many processes. Before the first it prints how many there are, and their cost.

        Args:
            model, records, accelerator, progress: as of a call.
            wanted (`[texts, videos]`, bool, *optional*): the pairs to score. Default: all.

        Returns:
            float32 `[texts, videos]` on the CPU, the same on every process: log-odds; NaN where nothing was asked for
            and for broken videos. Equal captions have equal scores.
        """
        captions = [caption for texts in records["captions"][:] for caption in texts]
        different = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        row = torch.tensor([different[caption] for caption in captions])
        asked = torch.ones(len(records), len(different), dtype=torch.bool)
        if wanted is not None:
            asked = (torch.zeros(asked.T.shape, dtype=torch.int32).index_add_(0, row, wanted.int()) > 0).T
        pairs = hashlib.sha256(asked.contiguous().numpy().tobytes()).hexdigest()[:16]
        self.open_parts({PAIRS: records}, accelerator, pairs=pairs)
        firsts = self.missing(PAIRS, records)
        collator = RetrievalCollator(self.processor, records, False, self.on_broken_video)
        loader = evaluation_loader(records, collator, accelerator, self.batch_size, self.num_workers, firsts)
        left = [i for first in firsts for i in range(first, min(first + self.batch_size, len(records)))]
        texts = PreparedTexts(model, self._tokens(list(different)), self.cache_bytes // 2, accelerator.device)

        scored: list[dict[str, Tensor]] = []
        hidden = progress is not None or not accelerator.is_main_process
        with tqdm(unit="pair", delay=0.01, disable=hidden) as bar:
            for batch in progress(loader) if progress else loader:
                rows = batch["video_index"].cpu()
                pixels = batch["pixel_values_videos"][: len(rows)]
                if bar.total is None and len(rows) and accelerator.is_main_process:
                    print(_announcement(model, pixels, asked[left], texts.lengths), file=sys.stderr)
                    bar.reset(int(asked[left].sum()))

                def advance(pairs: int) -> None:
                    bar.update(min(pairs * accelerator.num_processes, (bar.total or 0) - bar.n))

                with accelerator.autocast():
                    scores = score_videos(model, pixels, asked[rows], texts, self.cache_bytes // 2, advance)
                num_broken = batch["num_broken_videos"].cpu()
                scored.append({"video_index": rows, "scores": scores, "num_broken_videos": num_broken})
                self.keep(PAIRS, rows, scored[-1])
        table = torch.full(asked.shape, torch.nan)
        for part in [*self.stored(PAIRS), *gather_object(scored)]:
            rows = part["video_index"]
            table[rows] = table[rows].masked_scatter(asked[rows], part["scores"])
        return table.T[row]

    def _tokens(self, captions: list[str]) -> list[Tensor]:
        """Tokens of each caption, without padding."""
        inputs = self.processor(text=captions, return_tensors="pt")
        return [ids[mask.bool()] for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"])]


class PreparedTexts:
    """Texts, prepared when they are first asked for, and kept until they need more than `limit` bytes."""

    def __init__(self, model: Any, tokens: list[Tensor], limit: int, device: torch.device):
        self.model, self.tokens, self.limit, self.device = model, tokens, limit, device
        self.lengths = torch.tensor([len(ids) for ids in tokens])
        self.kept: dict[int, Tensor] = {}
        self.bytes = 0

    def __call__(self, rows: Tensor) -> Tensor:
        """`[rows, …]`; the texts of `rows` are equally long."""
        if self.bytes > self.limit:
            self.kept, self.bytes = {}, 0
        different, place = rows.unique(return_inverse=True)
        if missing := [row for row in different.tolist() if row not in self.kept]:
            made = self.model.prepare_texts(torch.stack([self.tokens[row] for row in missing]).to(self.device))
            self.kept.update(zip(missing, made))
            self.bytes += made.nbytes
        return torch.stack([self.kept[row] for row in different.tolist()])[place.to(self.device)]


def score_videos(
    model: Any,
    pixels: Tensor,
    asked: Tensor,
    texts: PreparedTexts,
    limit: int,
    advance: Callable[[int], None] = lambda pairs: None,
) -> Tensor:
    """
    Score videos with texts.

    Args:
        model: a pair scorer.
        pixels: `[videos, …]`.
        asked (`[videos, texts]`, bool): the pairs to score.
        texts: all texts.
        limit: bytes of prepared videos. Those that fit in are scored together.
        advance: hears how many pairs are done.

    Returns:
        float32 `[pairs]` on the CPU, video by video.
    """
    scores = torch.zeros(asked.shape)
    prepared: list[Tensor] = []
    for number in range(len(pixels)):
        prepared.append(model.prepare_videos(pixels[number : number + 1])[0])
        if number + 1 < len(pixels) and (len(prepared) + 1) * prepared[0].nbytes <= limit:
            continue
        videos, first = torch.stack(prepared), number + 1 - len(prepared)
        prepared = []
        for pairs in _pairs_of_equal_length(asked[first : number + 1], texts.lengths):
            size = videos[0].numel() + texts(pairs[:1, 1]).numel()
            for video, text in (chunk.unbind(1) for chunk in pairs.split(max(1, ELEMENTS // size))):
                values = model.score_pairs(videos[video.to(videos.device)], texts(text))
                scores[first + video, text] = values.float().cpu()
                advance(len(text))
    return scores[asked]


def _pairs_of_equal_length(asked: Tensor, lengths: Tensor) -> Iterator[Tensor]:
    """The pairs (video, text) of `asked` `[videos, texts]`: `[pairs, 2]` for each length of a text, text by text."""
    pairs = asked.T.nonzero().flip(1)
    of_pair = lengths[pairs[:, 1]]
    for length in of_pair.unique():
        yield pairs[of_pair == length]


def _announcement(model: Any, pixels: Tensor, asked: Tensor, lengths: Tensor) -> str:
    """How many pairs and clips there are, and how many operations they take."""
    clips = len(asked) * (pixels.shape[1] if pixels.ndim == 6 else 1)
    flops = count_flops(model, pixels.shape[1:], asked, lengths, pixels.device)
    return (
        f"{asked.sum():,} pairs of {asked.any(0).sum():,} texts and {len(asked):,} videos ({clips:,} clips): "
        f"{flops:.3g} FLOPs"
    )


@torch.no_grad()
def count_flops(
    model: Any, shape: Sequence[int], asked: Tensor, lengths: Tensor, device: torch.device | str = "cpu"
) -> int:
    """
    The floating-point operations of scoring pairs: products and convolutions, two for a multiplication with addition.

    Nothing is computed: the model runs on the shapes alone, once for each length of a text.

    Args:
        model: a pair scorer.
        shape: of the pixels of a video.
        asked (`[videos, texts]`, bool): the pairs.
        lengths (`[texts]`): tokens of each text.
        device: of the model.
    """

    fake = FakeTensorMode(allow_non_fake_inputs=True)

    def count(work: Callable[..., Tensor], *inputs: Tensor) -> tuple[int, Tensor]:
        # Of the kinds of attention, the counter knows only the plain one on every device.
        with fake, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output = work(*inputs)
        return counter.get_total_flops(), output

    with fake:
        pixels = torch.empty(1, *shape, device=device)
    one_video, video = count(model.prepare_videos, pixels)
    total = len(asked) * one_video
    for length in lengths.unique().tolist():
        of_length = asked[:, lengths == length]
        with fake:
            ids = torch.empty(1, length, dtype=torch.long, device=device)
        one_text, text = count(model.prepare_texts, ids)
        one_pair, _ = count(model.score_pairs, video, text)
        total += int(of_length.any(0).sum()) * one_text + int(of_length.sum()) * one_pair
    return total
