"""`hedgerow-offline`: the offline verbs where only the wheel is installed. It takes the options of
`hedgerow`'s own and prints what that prints with `--json`."""

import argparse
import json
import signal
import sys

import hedgerow


def seed(text):
    number = int(text)
    if not 0 <= number < 1 << 64:
        raise argparse.ArgumentTypeError(f"{number} is no number of 64 bits")
    return number


def shown(text):
    """What names of files can't do to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def parser():
    top = argparse.ArgumentParser(
        prog="hedgerow-offline",
        description="Learns from captures, scores, evaluates, back-tests and shares them, on files alone.",
        epilog="Example: hedgerow-offline train /captures --model host.hedgerow",
    )
    top.add_argument("--version", action="version", version=hedgerow.__version__)
    verbs = top.add_subparsers(dest="verb", required=True)

    def verb(name, run, text):
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("captures", nargs="+", metavar="CAPTURE")
        sub.add_argument("--model", default="model.hedgerow", help="model file (default: %(default)s)")
        for option in ("host", "workload", "program"):
            sub.add_argument(f"--{option}", action="append", help="only these, by name or pattern")
        sub.add_argument("--where", metavar="SQL", help="only where this holds of host, workload and program")
        sub.add_argument("--from", dest="from_time", metavar="TIME", help="only epochs that end from then on")
        sub.add_argument("--to", dest="to_time", metavar="TIME", help="only epochs that end until then")
        sub.add_argument("--tz", default="UTC", help="zone of times that name none (default: %(default)s)")
        return sub

    sub = verb("train", hedgerow.train, "Learn a model from captures.")
    key = sub.add_mutually_exclusive_group()
    key.add_argument("--seed", type=seed, help="key of the n-gram hash and seed of the forest")
    key.add_argument("--key-file", help="file of a secret that all hosts share (mode 0600)")
    sub.add_argument("--recompute", action="store_true", help="rows and n-grams out of every call")
    sub.add_argument("--windows", help="directory for the windows that it was learned from")
    sub.add_argument("--report", help="page on what was learned (FILE.html)")
    sub.add_argument("--part", action="store_true", help="write what `merge` makes a model of, with others")

    sub = verbs.add_parser("merge", help="Make one model of many.", description="Make one model of many.")
    sub.add_argument("models", nargs="+", metavar="MODEL")
    sub.add_argument("-o", "--out", required=True, help="model file to write")
    sub.set_defaults(run=hedgerow.merge)

    def exchange(name, run, text, *files):
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        for file in files:
            sub.add_argument(file, metavar="ONNX")
        sub.add_argument("--model", default="model.hedgerow", help="model file (default: %(default)s)")
        sub.add_argument("--scale", choices=["5s", "1m"], default="5s", help="length of the windows")
        return sub

    exchange("export", hedgerow.export_forest, "Write a model's forest as ONNX.", "out")
    sub = exchange("import", hedgerow.import_forest, "Make a model whose forest is another one.", "forest")
    sub.add_argument("--out", required=True, help="model file to write")
    sub.add_argument("--hold-back", nargs="+", default=[], metavar="CAPTURE", help="what the forest is held against")
    sub.add_argument("--recompute", action="store_true", help="rows and n-grams out of every call")

    text = "Write a capture anew, as it can be given away."
    sub = verbs.add_parser("share", help=text, description=text)
    sub.add_argument("capture", metavar="CAPTURE")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--owner", required=True, help="whose it becomes: a user's name or number")
    sub.add_argument("--pseudonymise", metavar="KEYFILE", help="replace names by this secret (mode 0600)")
    sub.set_defaults(run=hedgerow.share)

    sub = verb("score", hedgerow.score, "Score captures; without --out the findings are printed.")
    sub.add_argument("--out", help="directory for scores (Parquet) and findings (JSON lines)")
    sub.add_argument("--recompute", action="store_true", help="rows and n-grams out of every call")
    sub.add_argument("--windows", help="directory for the windows that were scored")

    sub = verb("eval", hedgerow.evaluate, "Evaluate a model by labels of what was an attack.")
    sub.add_argument("--labels", required=True, help="CSV or Parquet")
    sub.add_argument("--budget", type=float, help="alerts a day that are acceptable")
    sub.add_argument("--recompute", action="store_true", help="rows and n-grams out of every call")
    sub.add_argument("--csv", help="also write the figures as CSV")
    sub.add_argument("--html", help="also write a page")

    sub = verb("backtest", hedgerow.backtest, "Show what a model and a policy would have done.")
    sub.add_argument("--policy", help="what the responder is told (TOML)")
    sub.add_argument("--allow", action="append", default=[], help="never refuse this prefix")
    sub.add_argument("--budget", type=float, help="alerts a day that are acceptable")
    sub.add_argument("--labels", help="what was an attack: all else that is cut is benign")
    sub.add_argument("--against-model", help="a second model, to be told apart from the first")
    sub.add_argument("--against-policy", help="a second policy, to be told apart from the first")
    return top


def main(arguments=None):
    # The verbs run outside of the interpreter, which would notice Ctrl-C only after them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asked = vars(parser().parse_args(arguments))
    asked.pop("verb")
    run = asked.pop("run")
    try:
        told = run(**asked)
        print(json.dumps(told))
    except hedgerow.Error as why:
        print(f"hedgerow-offline: {shown(str(why))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
