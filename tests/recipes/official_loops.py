"""The authors' training loops and test scripts, stated in plain torch from their papers and code, not from this package's.

A loop calls the stages of a model that recordings of the official code hold already: towers, temporal head, restorer, ALT's
decoder, TAM's ResNet. Stated here is what happens around them: which texts a video is matched with, norms, scales, losses,
parameter groups, updates, rates, and how a test script scores the views of a video.

A batch has `pixels` (B, T, 3, H, W), `unmixed` (the same before mixup and cutmix), `labels` (B,), `names` of the videos,
`templates` drawn for their captions, `discarded` pixels of frames that are restored, and torch's `random_state`.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout, kl_div, normalize, one_hot

from kinoclip.methods.sllm.restorers import directions

BIKE, TEXT4VIS = "This is a video about {}", "a video of a person {}."
# ActionCLIP's `utils/Text_Prompt.py`
ACTIONCLIP = (
    *("a photo of action {}", "a picture of action {}", "Human action of {}", "{}, an action", "{} this is an action"),
    *("{}, a video of action", "Playing action of {}", "{}", "Playing a kind of action, {}"),
    *("Doing a kind of action, {}", "Look, the human is {}", "Can you recognize the action of {}?"),
    *("Video classification of {}", "A video of {}", "The man is {}", "The woman is {}"),
)


def tokenize(tokenizer, texts) -> tuple[Tensor, Tensor]:
    """Return ids (N, 77), padded with 0 as CLIP's authors pad, and the position of each end token (N,)."""
    encoded = tokenizer(list(texts), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return encoded["input_ids"] * encoded["attention_mask"], encoded["attention_mask"].sum(1) - 1


def read(clip, tokenizer, texts) -> tuple[Tensor, Tensor]:
    """Encode texts with CLIP: every position (N, 77, D) and the end token (N, D)."""
    ids, ends = tokenize(tokenizer, texts)
    words = clip.text_projection(clip.text_model(input_ids=ids).last_hidden_state)
    return words, words[torch.arange(len(ends)), ends]


def nce(logits: Tensor, labels: Tensor) -> Tensor:
    """KL of softmax(10 * match) and the prediction, for videos and for texts. Source: BIKE's `NCELoss`, ActionCLIP's `KLLoss`."""
    target = torch.softmax(10 * (labels[:, None] == labels[None]).float(), 1)
    return sum(kl_div(z.log_softmax(1), target, reduction="batchmean") for z in (logits, logits.T)) / 2


def shared_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in both directions, its target shared by all matches. Source: DSTPR eq. 15-16."""
    match = (labels[:, None] == labels[None]).float()
    share = match / match.sum(1, keepdim=True)
    return sum(-(share * z.log_softmax(1)).sum(1).mean() for z in (logits, logits.T)) / 2


def concept_spotting(frames: Tensor, words: Tensor) -> Tensor:
    """Pool frames (B, T, D) for each text (A, 77, D), weighed by all of its positions: (A, B, D). Source: BIKE's `get_logits`."""
    frames, words = normalize(frames, dim=-1), normalize(words, dim=-1)
    similar = torch.einsum("ajd,btd->abjt", words, frames)
    return torch.einsum("abt,btd->abd", torch.softmax(similar / 0.01, -1).mean(2), frames)


def own_share(mixed: Tensor, unmixed: Tensor) -> Tensor:
    """Return how much of each video is its own after mixup or cutmix with the one before it in the batch."""
    partner = unmixed.roll(1, 0)
    box = (mixed != unmixed).flatten(0, 2).any(0)
    if torch.equal(torch.where(box, partner, unmixed), mixed):
        return 1 - box.any(0).sum() * box.any(1).sum() / box.numel()
    return ((mixed - partner) * (unmixed - partner)).sum() / (unmixed - partner).square().sum()


class Loop:
    """A training loop and a test script: a method states `losses` of a batch by name, and `scores` (N, K) of views (N, V, ...).

    Args:
        model: what training starts from, or what is tested.
        tokenizer: CLIP's.
        names: of the classes.
        texts: further ones.
    """

    rate, betas, weight_decay, final_rate, views = 5e-5, (0.9, 0.999), 0.2, 0.0, 1

    def __init__(self, model, tokenizer, names, **texts):
        self.model, self.tokenizer, self.names, self.texts = model, tokenizer, names, texts
        self.clip = model.unwrap()
        with torch.no_grad():
            self.prepare()

    def prepare(self):
        """Encode what no update changes."""

    def base_rate(self, name: str) -> float | None:
        """Return the rate of a parameter, or None if it is not trained. CLIP learns ten times slower, its text not at all."""
        if name.startswith(("text_model.", "text_projection.")):
            return None
        return self.rate / 10 if name.startswith(("vision_model.", "visual_projection.", "logit_scale")) else self.rate

    def decay(self, name: str, parameter: Tensor) -> float:
        """Return the weight decay of a parameter."""
        return self.weight_decay

    def rule(self, progress: float) -> dict[str, tuple[float, float]]:
        """Return rate and decay of each trained parameter, a share of the run having passed; warm-up is left out."""
        share = self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * progress)) / 2
        rates = {name: self.base_rate(name) for name, _ in self.model.named_parameters()}
        return {n: (rate * share, self.decay(n, self.model.get_parameter(n))) for n, rate in rates.items() if rate}

    def optimizer(self, groups):
        """Build the optimizer."""
        return torch.optim.AdamW(groups, betas=self.betas, eps=1e-8)

    def start(self):
        """Build the optimizer, with a group for each trained parameter, and freeze the others."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(bool(self.base_rate(name)))
        self.model.train()
        return self.optimizer([{"name": name, "params": [self.model.get_parameter(name)]} for name in self.rule(0)])

    def train(self, batches, total: int) -> list[tuple[dict[str, float], dict[str, Tensor]]]:
        """Take the first of all updates of a run, and return the losses and gradients of each."""
        optimizer, taken = self.start(), []
        for number, batch in enumerate(batches):
            torch.set_rng_state(batch.random_state)
            losses = self.losses(batch)
            sum(losses.values()).backward()
            gradients = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
            taken.append(({name: loss.item() for name, loss in losses.items()}, gradients))
            self.update(optimizer, number / total)
        return taken

    def replay(self, gradients) -> list[dict[str, Tensor]]:
        """Take all updates of a run with given gradients, and return the parameters after each."""
        optimizer, weights = self.start(), []
        for number, found in enumerate(gradients):
            for name, parameter in self.model.named_parameters():
                parameter.grad = found.get(name)
            self.update(optimizer, number / len(gradients))
            weights.append({name: p.detach().clone() for name, p in self.model.named_parameters()})
        return weights

    def update(self, optimizer, progress: float) -> None:
        """Change the weights."""
        rule = self.rule(progress)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = rule[group["name"]]
        optimizer.step()
        optimizer.zero_grad()

    def of_views(self, views: Tensor, function) -> Tensor:
        """Apply a function to all views at once: (N, V, ...)."""
        return function(views.flatten(0, 1)).unflatten(0, views.shape[:2])


class BikeVideo(Loop):
    """BIKE's `train.py` and `test.py`: videos and captions of the batch; softmax of unscaled scores, twice."""

    views = 12

    def prepare(self):
        self.words, self.ends = read(self.clip, self.tokenizer, [BIKE.format(name) for name in self.names])

    def match(self, pixels, words, ends):
        frames = self.model.temporal_head(self.model.encode_frames(pixels).embeds)
        return torch.einsum("abd,ad->ba", concept_spotting(frames, words), normalize(ends, dim=-1))

    def losses(self, batch):
        logits = self.match(batch.pixels, self.words[batch.labels], self.ends[batch.labels])
        return {"video": nce(self.model.logit_scale.exp() * logits, batch.labels)}

    def scores(self, views, names):
        unscaled = self.of_views(views, lambda pixels: self.match(pixels, self.words, self.ends))
        return unscaled.softmax(-1).mean(1).softmax(-1)


class BikeAttributes(BikeVideo):
    """BIKE's `train_attributes.py`: two MLPs behind a frozen text tower; and `fusion_acc`."""

    views = 1

    def base_rate(self, name):
        if not name.startswith("attributes."):
            return None
        return self.rate / 10 if name == "attributes.logit_scale" else self.rate

    def match_phrases(self, names, ends):
        branch, phrases = self.model.attributes, self.texts["phrases"]
        _, found = read(self.clip, self.tokenizer, [BIKE.format(",".join(phrases[name][:5])) for name in names])
        found = normalize(branch.sentence_fc(normalize(found, dim=-1)), dim=-1)
        return found @ normalize(branch.query_fc(normalize(ends, dim=-1)), dim=-1).T

    def losses(self, batch):
        logits = self.match_phrases(batch.names, self.ends[batch.labels])
        return {"attributes": nce(self.model.attributes.logit_scale.exp() * logits, batch.labels)}

    def scores(self, views, names):
        video = self.of_views(views, lambda pixels: self.match(pixels, self.words, self.ends))
        return 0.7 * video.softmax(-1).mean(1) + 0.3 * self.match_phrases(names, self.ends).softmax(-1)


class Text4Vis(Loop):
    """Text4Vis' `train.py` and `test.py`: all classes, whose embeddings stay; embeddings of views are averaged."""

    views = 12

    def prepare(self):
        self.classes = normalize(read(self.clip, self.tokenizer, self.sentences())[1], dim=-1)

    def sentences(self):
        return [TEXT4VIS.format(name) for name in self.names]

    def embed(self, pixels):
        return self.clip.temporal_head(self.clip.encode_frames(pixels).embeds).mean(1)

    def losses(self, batch):
        cosines = normalize(self.embed(batch.pixels), dim=-1) @ self.classes.T
        return {"video": cross_entropy(self.clip.logit_scale.exp() * cosines, batch.labels)}

    def scores(self, views, names):
        video = normalize(self.of_views(views, self.embed).mean(1), dim=-1)
        return (100 * video @ self.classes.T).softmax(-1)


class Sllm(Text4Vis):
    """SLLM's `train.py`: Text4Vis on kept and restored frames; restored frames are compared with encoded ones.

    The restorer is trained with the other new modules; the official default leaves it out of the optimizer.
    """

    views = 1

    def base_rate(self, name):
        return super().base_rate(name.removeprefix("recognizer."))

    def sentences(self):
        return [f"{name},{self.texts['descriptions'][name]}" for name in self.names]

    def restore(self, kept):
        frames = self.clip.encode_frames(kept).embeds
        restored = sum(directions(self.model.restorer.mix, "mean", frames)) / 2
        fused = torch.stack([frames[:, :-1], restored], 2).flatten(1, 2)
        return restored, self.clip.temporal_head(torch.cat([fused, frames[:, -1:]], 1)).mean(1)

    def embed(self, pixels):
        return self.restore(pixels)[1]

    def losses(self, batch):
        restored, video = self.restore(batch.pixels)
        with torch.no_grad():
            targets = self.clip.encode_frames(batch.discarded).embeds
        logits = self.clip.logit_scale.exp() * normalize(video, dim=-1) @ self.classes.T
        pairs = (restored.flatten(0, 1).log_softmax(-1), targets.flatten(0, 1).softmax(-1))
        return {"video": cross_entropy(logits, batch.labels), "restoration": kl_div(*pairs, reduction="batchmean")}


class ActionClip(Loop):
    """ActionCLIP's `train.py` and `test.py`: each video with its label in one drawn template; all 16 in the test."""

    betas = (0.9, 0.98)

    def base_rate(self, name):
        return self.rate if name.startswith("temporal_head.") else self.rate / 10

    def embed(self, pixels):
        return normalize(self.model.temporal_head(self.model.encode_frames(pixels).embeds).mean(1), dim=-1)

    def losses(self, batch):
        drawn = zip(batch.templates, batch.labels, strict=True)
        captions = [ACTIONCLIP[template].format(self.names[label]) for template, label in drawn]
        text = normalize(read(self.model, self.tokenizer, captions)[1], dim=-1)
        return {"video": nce(self.model.logit_scale.exp() * self.embed(batch.pixels) @ text.T, batch.labels)}

    def scores(self, views, names):
        texts = [template.format(name) for template in ACTIONCLIP for name in self.names]
        text = normalize(read(self.model, self.tokenizer, texts)[1], dim=-1)
        cosines = self.of_views(views, self.embed)[:, 0] @ text.T
        return (100 * cosines).unflatten(1, (16, -1)).softmax(-1).mean(1)


class Alt(Loop):
    """ALT in X-CLIP's loop: mixed and smoothed labels, all classes under 16 templates, a fixed scale."""

    rate, betas, weight_decay, final_rate, views = 8e-5, (0.9, 0.98), 1e-3, 0.01, 3

    def base_rate(self, name):
        return None if name == "logit_scale" else super().base_rate(name)

    def decay(self, name, parameter):
        kept = parameter.ndim == 1 or name.endswith((".bias", "position_embedding.weight"))
        return 0.0 if kept else self.weight_decay

    def prepare(self):
        texts = [template.format(name) for template in ACTIONCLIP for name in self.names]
        text = normalize(read(self.model, self.tokenizer, texts)[1], dim=-1).unflatten(0, (16, -1))
        self.classes = normalize(text.mean(0), dim=-1)

    def logits(self, pixels):
        video = self.model.aggregate(self.model.encode_frames(pixels), None)
        return self.model.logit_scale.exp() * normalize(video, dim=-1) @ self.classes.T

    def losses(self, batch):
        count, own = len(self.names), own_share(batch.pixels, batch.unmixed)
        right = one_hot(batch.labels, count).float()
        target = 0.9 * (own * right + (1 - own) * right.roll(1, 0)) + 0.1 / count
        return {"video": -(target * self.logits(batch.pixels).log_softmax(1)).sum(1).mean()}

    def scores(self, views, names):
        return self.of_views(views, self.logits).softmax(-1).mean(1)


class AltFewShot(Alt):
    """ALT sec. 4.2: the decoder learns at ten times the rate of other new modules, and one view is scored."""

    views = 1

    def base_rate(self, name):
        return 8e-4 if name.startswith("decoder.") else super().base_rate(name)


class Dstpr(Loop):
    """DSTPR sec. 3: captions of the batch in two languages, a fixed temperature, prompts in a frozen CLIP."""

    rate, weight_decay, temperature, english = 5e-6, 1e-2, 0.01, 0.5

    def base_rate(self, name):
        return self.rate if name.startswith("prompts.") else None

    def prepare(self):
        self.words, english = read(self.model, self.tokenizer, [BIKE.format(name) for name in self.names])
        encoded = self.texts["chinese_tokenizer"](self.texts["chinese_names"], padding="max_length", max_length=52)
        chinese, _ = self.model.chinese(torch.tensor(encoded["input_ids"]))
        self.ends = [normalize(text, dim=-1) for text in (english, chinese)]

    def match(self, pixels, rows):
        video = concept_spotting(self.model.encode_frames(pixels).embeds, self.words[rows])
        return [torch.einsum("abd,ad->ba", video, ends[rows]) / self.temperature for ends in self.ends]

    def losses(self, batch):
        both = zip(("video", "chinese"), self.match(batch.pixels, batch.labels), strict=True)
        return {name: shared_cross_entropy(logits, batch.labels) for name, logits in both}

    def scores(self, views, names):
        english, chinese = self.match(views[:, 0], torch.arange(len(self.names)))
        return (self.english * english + (1 - self.english) * chinese).softmax(-1)


class Tam(Loop):
    """TAM's `train.py` and `test.py`: a classifier of each frame, and SGD; the logits of views are averaged.

    The rate falls with each update here, as in the row; the official one with each epoch.
    """

    rate, weight_decay = 0.01, 5e-4

    def base_rate(self, name):
        return self.rate

    def optimizer(self, groups):
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)

    def logits(self, pixels):
        frames = self.model.encode_frames(pixels).embeds
        return self.model.fc(dropout(frames, 0.5, self.model.training)).mean(1)

    def losses(self, batch):
        return {"video": cross_entropy(self.logits(batch.pixels), batch.labels)}

    def scores(self, views, names):
        return self.of_views(views, self.logits).mean(1).softmax(-1)
