"""ClipBERT written a second time with functions of torch alone: one clip, one text at a time (clipbert §1 to §3)."""

import torch
from torch.nn import functional as F


def plain_logits(weights, config, input_ids, attention_mask, pixels):
    """Texts [texts, L] and their pixels [texts, N, T, 3, H, W] -> logits [N, texts, labels] of the usual head."""
    clips = [
        [
            _logits(weights, config, ids[mask.bool()], clip)
            for ids, mask, clip in zip(input_ids, attention_mask, row, strict=True)
        ]
        for row in pixels.transpose(0, 1)
    ]
    return torch.stack([torch.stack(row) for row in clips])


def _logits(weights, config, ids, clip):
    base = {name.removeprefix("clipbert."): value for name, value in weights.items()}
    visual = _visual(base, config, clip)
    text = base["embeddings.word_embeddings.weight"][ids] + base["embeddings.position_embeddings.weight"][: len(ids)]
    text = _norm(base, "embeddings.LayerNorm", text + base["embeddings.token_type_embeddings.weight"][0])
    hidden = torch.cat([text, visual])
    for layer in range(config.num_hidden_layers):
        hidden = _layer(base, f"encoder.layer.{layer}", config.num_attention_heads, hidden)
    pooled = torch.tanh(_linear(base, "pooler.dense", hidden[0]))
    return _linear(base, "classifier.2", _linear(base, "classifier.0", pooled).relu())


def _visual(base, config, clip):
    grids = []
    for frame in clip:
        x = frame[[2, 1, 0]][None]
        x = F.max_pool2d(_conv(base, "cnn.backbone.stem.conv1", x, 2, 3).relu(), 3, 2, 1)
        for stage, depth in enumerate(config.depths):
            for block in range(depth):
                stride, name = 2 if stage and not block else 1, f"cnn.backbone.res{stage + 2}.{block}"
                y = _conv(base, f"{name}.conv1", x, stride, 0).relu()
                y = _conv(base, f"{name}.conv3", _conv(base, f"{name}.conv2", y, 1, 1).relu(), 1, 0)
                x = (y + (x if block else _conv(base, f"{name}.shortcut", x, stride, 0))).relu()
        grids.append(F.max_pool2d(F.conv2d(x, base["cnn.grid_encoder.weight"], padding=1), 2).relu()[0])
    grid = torch.stack(grids, 1)[None]  # [1, D, T, rows, columns]
    fusion = "cnn.temporal_fusion"
    if config.temporal_fusion == "conv3d":
        grid = F.conv3d(grid, base[f"{fusion}.weight"], base[f"{fusion}.bias"], padding=1)
    if config.temporal_fusion == "conv2plus1d":
        grid = F.conv3d(grid, base[f"{fusion}.0.weight"], base[f"{fusion}.0.bias"], padding=(0, 1, 1)).relu()
        grid = F.conv3d(grid, base[f"{fusion}.2.weight"], base[f"{fusion}.2.bias"], padding=(1, 0, 0))
    grid = grid[0].sum(1) / len(clip)
    rows = []
    for row in range(grid.shape[1]):
        for column in range(grid.shape[2]):
            position = base["visual_embeddings.row_position_embeddings.weight"][row]
            position = position + base["visual_embeddings.col_position_embeddings.weight"][column]
            rows.append(grid[:, row, column] + position + base["visual_embeddings.token_type_embeddings.weight"][0])
    return _norm(base, "visual_embeddings.LayerNorm", torch.stack(rows))


def _conv(base, name, x, stride, padding):
    x = F.conv2d(x, base[f"{name}.weight"], stride=stride, padding=padding)
    mean, variance, weight, bias = (
        base[f"{name}.norm.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def _layer(base, name, heads, hidden):
    query, key, value = (
        _linear(base, f"{name}.attention.self.{part}", hidden).unflatten(1, (heads, -1)).transpose(0, 1)
        for part in ("query", "key", "value")
    )
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    attended = _linear(base, f"{name}.attention.output.dense", (weights @ value).transpose(0, 1).flatten(1))
    hidden = _norm(base, f"{name}.attention.output.LayerNorm", attended + hidden)
    inner = F.gelu(_linear(base, f"{name}.intermediate.dense", hidden))
    return _norm(base, f"{name}.output.LayerNorm", _linear(base, f"{name}.output.dense", inner) + hidden)


def _linear(base, name, x):
    return F.linear(x, base[f"{name}.weight"], base[f"{name}.bias"])


def _norm(base, name, x):
    return F.layer_norm(x, x.shape[-1:], base[f"{name}.weight"], base[f"{name}.bias"], eps=1e-12)
