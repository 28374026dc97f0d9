//! The command line of `hedgerow model`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hedgerow_event::Scale;

#[derive(Debug, Subcommand)]
pub enum Model {
    /// Write the forest of windows of one length as ONNX: input `X` of deviations, output `scores`.
    #[command(
        after_help = "Example:\n  hedgerow model export forest.onnx --model host.hedgerow --scale 1m"
    )]
    Export {
        /// ONNX file to write.
        out: PathBuf,
        /// Model file to read.
        #[arg(long, default_value = "model.hedgerow")]
        model: PathBuf,
        /// Length of the windows.
        #[arg(long, value_enum, default_value_t = ScaleArgument::Seconds5)]
        scale: ScaleArgument,
    },
    /// Make one model of models of other hosts or times: what training on all their captures gives.
    #[command(
        after_help = "The models are those that `hedgerow train` writes, under one key (--key-file), of \
        different hosts or times; the result is the model that one `hedgerow train` on all of their \
        captures writes, bit for bit, whatever their order, and can be merged again.\n\n\
        Examples:\n  hedgerow model merge web-1.hedgerow web-2.hedgerow -o web.hedgerow\n  \
        hedgerow model merge rack-*.hedgerow --out fleet.hedgerow"
    )]
    Merge {
        /// Model files to read.
        #[arg(required = true, num_args = 1.., value_name = "MODEL")]
        models: Vec<PathBuf>,
        /// Model file to write.
        #[arg(short, long)]
        out: PathBuf,
    },
    /// Make a model whose forest is another one, such as scikit-learn's as skl2onnx writes it.
    #[command(
        after_help = "Example:\n  hedgerow model import sklearn.onnx --model host.hedgerow --out new.hedgerow \
        --hold-back /captures"
    )]
    Import(ModelImport),
}

#[derive(Debug, Clone, Args)]
pub struct ModelImport {
    /// ONNX file to read: an isolation forest over deviations.
    pub forest: PathBuf,
    /// Model file that has all else: ranges, n-grams, rates, deeds.
    #[arg(long, default_value = "model.hedgerow")]
    pub model: PathBuf,
    /// Model file to write.
    #[arg(long)]
    pub out: PathBuf,
    /// Length of the windows.
    #[arg(long, value_enum, default_value_t = ScaleArgument::Seconds5)]
    pub scale: ScaleArgument,
    /// Captures whose windows the new forest is held against, which should be others than it was
    /// fitted on. Without any it says nothing until it has held back enough windows in service.
    #[arg(long, value_name = "CAPTURE", num_args = 1..)]
    pub hold_back: Vec<PathBuf>,
    /// Recompute their rows from every captured call; needs a capture of every call (--full).
    #[arg(long)]
    pub recompute: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScaleArgument {
    #[value(name = "5s")]
    Seconds5,
    #[value(name = "1m")]
    Minute,
}

impl From<ScaleArgument> for Scale {
    fn from(scale: ScaleArgument) -> Self {
        match scale {
            ScaleArgument::Seconds5 => Self::Seconds5,
            ScaleArgument::Minute => Self::Minute,
        }
    }
}
