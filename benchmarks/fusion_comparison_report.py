"""
Table and plot of benchmarks/fusion_comparison.py from its raw results: fusion_comparison.md and .png beside the JSON.

    python benchmarks/fusion_comparison_report.py [benchmarks/results/fusion_comparison.json]
"""

import json
import sys
from pathlib import Path
from statistics import mean, stdev

ORDER_COLUMNS = {"caption_to_clip": "right clip for a caption", "clip_to_caption": "right caption for a clip"}
RETRIEVAL_COLUMNS = {
    "R1": "R@1",
    "R5": "R@5",
    "R10": "R@10",
    "mean_recall": "mean of the three",
    "first_has_colour_and_shape": "first has colour and shape",
    "first_has_places": "first has places",
    "first_has_motion": "first has motion",
}


def write_report(path: Path) -> None:
    """`path` is the JSON of raw results; seeds that are not complete are left out."""
    report = json.loads(path.read_text())
    validation = report["settings"]["validation_seed"]
    runs = [run for run in report["runs"] if run["seed"] != validation]
    whole = max(sum(run["seed"] == seed for run in runs) for seed in {run["seed"] for run in runs})
    runs = [run for run in runs if sum(other["seed"] == run["seed"] for other in runs) == whole]
    path.with_suffix(".md").write_text(table(report, runs))
    plot(report, runs, path.with_suffix(".png"))
    print(f"\n{path.with_suffix('.md').read_text()}\n{path}, {path.with_suffix('.png')}")


def of(runs: list[dict], task: str) -> dict[str, list[dict]]:
    """The runs of each fusion in this task, in the order of the seeds."""
    chosen = sorted((run for run in runs if run["task"] == task), key=lambda run: run["seed"])
    return {
        name: [run for run in chosen if run["fusion"] == name]
        for name in dict.fromkeys(run["fusion"] for run in runs)
        if any(run["fusion"] == name for run in chosen)
    }


def per_cent(values: list[float]) -> str:
    return f"{100 * mean(values):.1f} ± {100 * stdev(values) if len(values) > 1 else 0:.1f}"


def table(report: dict, runs: list[dict]) -> str:
    settings, chance = report["settings"], report["chance"]
    seeds = len({run["seed"] for run in runs})
    lines = [
        f"Per cent, mean ± standard deviation over {seeds} seeds. Batches of "
        f"{settings['batch_size']} pairs, {settings['num_train']} training clips of {settings['num_frames']} frames, "
        f"{settings['num_test']} test clips a seed.",
        "",
        f"**Order**, after {settings['order_steps']} updates: {2 * settings['num_test']} questions a direction and "
        "seed, each between two clips of the same frames or their two captions; chance 50.0.",
        "",
        "| fusion | right clip for a caption | right caption for a clip | learning rate | largest difference of "
        "cosines | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for task, note in (("order", ""), ("order_from_zeros", ", temporal embedding from 0")):
        for name, chosen in of(runs, task).items():
            cells = [per_cent([run[column] for run in chosen]) for column in ORDER_COLUMNS]
            largest = max(run["largest_difference"] for run in chosen)
            lines.append(
                f"| {name}{note} | {cells[0]} | {cells[1]} | {chosen[0]['learning_rate']:g} | {largest:.1g} "
                f"| {chosen[0]['parameters']:,} |"
            )
    lines += [
        "",
        f"**Retrieval**, after {settings['retrieval_steps']} updates: text to video over {settings['num_test']} "
        "clips; chance "
        + ", ".join(f"R@{k} {100 * chance[f'R{k}']:.1f}" for k in (1, 5, 10))
        + ". The last column but one is the difference in R@1 to mean pooling of the same seed, and in how many seeds "
        "it is above 0.",
        "",
        "| fusion | " + " | ".join(RETRIEVAL_COLUMNS.values()) + " | R@1 over mean pooling | learning rate |",
        "|---" * (len(RETRIEVAL_COLUMNS) + 3) + "|",
    ]
    retrieval = of(runs, "retrieval")
    base = [run["R1"] for run in retrieval["mean pooling"]]
    for name, chosen in retrieval.items():
        cells = [per_cent([run[column] for run in chosen]) for column in RETRIEVAL_COLUMNS]
        gains = [run["R1"] - other for run, other in zip(chosen, base, strict=True)]
        gain = "-" if name == "mean pooling" else f"{per_cent(gains)} ({sum(g > 0 for g in gains)} of {len(gains)})"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {gain} | {chosen[0]['learning_rate']:g} |")
    images = list({run["seed"]: run["image_model_R1"] for run in runs}.values())
    lines += [
        "",
        "The image-text model that all start from finds the picture of a caption among 216 new ones at first place in "
        f"{per_cent(images)} (chance 0.5). CPU time of a run: {mean(run['cpu_seconds'] for run in runs):.0f} s "
        f"({min(run['cpu_seconds'] for run in runs):.0f} to {max(run['cpu_seconds'] for run in runs):.0f}).",
    ]
    return "\n".join(lines) + "\n"


def plot(report: dict, runs: list[dict], path: Path) -> None:
    """A bar for each mean, a dot for each seed, a dashed line for chance."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (
        (
            "order",
            "caption_to_clip",
            "Clips of the same frames in another order:\nright clip for a caption (%)",
            0.5,
        ),
        ("retrieval", "R1", "Retrieval, new combinations:\ntext-to-video R@1 (%)", report["chance"]["R1"]),
    )
    figure, axes = pyplot.subplots(1, len(panels), figsize=(10, 3.4), sharey=True, layout="constrained")
    for axis, (task, score, title, chance) in zip(axes, panels, strict=True):
        for row, (name, chosen) in enumerate(of(runs, task).items()):
            values = [100 * run[score] for run in chosen]
            colour = "tab:orange" if "prox" in name else "tab:blue"
            axis.barh(row, mean(values), color=colour, alpha=0.35)
            axis.plot(values, [row] * len(values), "o", color=colour, markersize=5, alpha=0.8)
        axis.axvline(100 * chance, color="black", linestyle="--", linewidth=1)
        axis.text(100 * chance + 0.8, -0.75, "chance", fontsize=8)
        axis.set(title=title, yticks=range(len(of(runs, task))), yticklabels=list(of(runs, task)), ylim=(5, -1))
        axis.set_xlim(0, 102)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    write_report(
        Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "results" / "fusion_comparison.json")
    )
