"""
Ask a question about a video.

  hf-videolang ask clip.mp4 "what is on the table?" --model org/clipbert-msrvtt-qa
  hf-videolang ask clip.gif "what does the boy do?" --model org/clipbert-tgif-action --choices nod clap spin
  hf-videolang ask clip.mp4 "who sits?" --model hero-tvqa --choices Ana Bo --features clip.npy
  hf-videolang ask clip.mp4 "the woman leaves" --model hero-violin --features clip.npy

Prints what the model sees of the video, then each option or the five best answers with their probabilities, or the
number of a model that counts. --num-clips decides how many places of the video are read. ClipBERT averages over frames
and clips, so it cannot tell "left then up" from its reversal in time.
A model that reads features takes the subtitles beside the video; the features that it names are extracted, unless
--features has them. If it chooses, it also prints the moment that it looked at. A model of statements says whether the
sentence is true.
Exit code 0; 1 if the video does not decode; 2 if model or options cannot be used.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from hf_videolang.commands.running import on_device
from hf_videolang.commands.subtitled_video import add_feature_arguments, chosen_subtitles, described
from hf_videolang.console import print_error
from hf_videolang.data.batches.clip_reader import reads_subtitles
from hf_videolang.hub.loading import load_model_and_processor
from hf_videolang.hub.question_heads import question_head
from hf_videolang.inference.first_use import features_of_files
from hf_videolang.inference.presets import read_weights
from hf_videolang.inference.question_answering import ask, ask_features
from hf_videolang.video import VideoDecodingError


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("video", help="path or URL")
    parser.add_argument("question", help="perhaps empty, if the choices say all; or a statement")
    parser.add_argument("--model", required=True, help="model folder or Hub id, with a head for questions")
    parser.add_argument("--choices", nargs="+", metavar="TEXT", help="options, for a model that chooses among them")
    add_feature_arguments(parser)
    parser.add_argument("--num-clips", type=int, help="clips of the video (default: the model's own)")
    parser.add_argument("--num-frames", type=int, help="frames of a clip (default: the model's own)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: Namespace) -> int:
    if args.choices and len(set(args.choices)) == 1:
        raise ValueError(f"--choices has a single option, {args.choices[0]!r}; give two or more.")
    model, processor = load_model_and_processor(args.model, args.num_frames, num_clips=args.num_clips)
    model = on_device(model)
    moment, protocol = None, processor.input_protocol()
    try:
        if reads_subtitles(processor):
            path, weights = Path(args.video), read_weights(args.extractor)
            subtitles = chosen_subtitles(args.subtitles, path)
            with features_of_files([path], model, processor, args.features, weights) as (read_rows, store):
                rows, protocol = read_rows(path), processor.input_protocol(store.description if store else None)
            answers, moment = ask_features(model, processor, rows, subtitles, args.question, args.choices or ())
        else:
            answers = ask(model, processor, args.video, args.question, args.choices)
    except VideoDecodingError as error:
        print_error(f"{error}.")
        return 1
    is_count = question_head(model) == "count"
    if args.json:
        found = [{"answer": answer, "number" if is_count else "probability": value} for answer, value in answers]
        content = {"question": args.question, "answers": found, "protocol": protocol}
        print(json.dumps(content | ({"moment": moment} if moment else {}), ensure_ascii=False))
        return 0
    print(f"{args.video}; {described(protocol)}\n")
    for answer, value in answers:
        print(f"{answer} ({value:.2f} before rounding)" if is_count else f"{value:6.1%}  {answer}")
    if moment is not None:
        print(f"\nlooked at {moment['start']:.1f} to {moment['end']:.1f} s")
    return 0
