//! How the BPF programs are built: every `src/*.bpf.c` is compiled with clang, the objects of one
//! family are linked into one, and a skeleton is generated from that. Writes to `OUT_DIR` only.

use std::{env, error::Error, path::PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Clang's own name and Debian's, best first; `HEDGEROW_CLANG` overrides both.
const COMPILERS: [&str; 2] = ["clang-19", "clang"];

/// Generates Rust types with layout tests from the header that BPF and user space share.
pub fn wire_types(header: &str) -> Result<()> {
    println!("cargo:rerun-if-changed=include");
    println!("cargo:rerun-if-env-changed=HEDGEROW_SYSROOT");
    bindgen::Builder::default()
        .header(header)
        .clang_args(
            Some(sysroot()).filter(|root| !root.is_empty()).map(|root| format!("--sysroot={root}")),
        )
        .allowlist_file(".*wire\\.h")
        .derive_default(true)
        .derive_debug(true)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .layout_tests(true)
        .generate()?
        .write_to_file(output("wire.rs")?)?;
    Ok(())
}

/// Where the headers of the machine that is built for lie, when that is another one.
fn sysroot() -> String {
    env::var("HEDGEROW_SYSROOT").unwrap_or_default()
}

fn output(name: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(env::var("OUT_DIR")?).join(name))
}

#[cfg(feature = "skeletons")]
mod objects {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::{Command, Stdio},
    };

    use libbpf_cargo::SkeletonBuilder;

    use super::{COMPILERS, Result, env, output, sysroot};

    /// Compiles those sources whose stem `belongs` takes, links them and writes `NAME.skel.rs`.
    pub fn skeleton(name: &str, belongs: impl Fn(&str) -> bool) -> Result<()> {
        println!("cargo:rerun-if-changed=src");
        println!("cargo:rerun-if-env-changed=HEDGEROW_CLANG");
        let linked = output(&format!("{name}.o"))?;
        let mut linker = libbpf_rs::Linker::new(&linked)?;
        for source in sources(&belongs)? {
            let stem = stem(&source).to_owned();
            let object = output(&format!("{stem}.part.o"))?;
            SkeletonBuilder::new()
                .source(&source)
                .obj(&object)
                .clang(compiler())
                .clang_args(arguments())
                .build()?;
            linker.add_file(&object)?;
        }
        linker.link()?;
        SkeletonBuilder::new().obj(&linked).generate(output(&format!("{name}.skel.rs"))?)?;
        Ok(())
    }

    fn sources(belongs: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("src")? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".bpf.c") && belongs(stem(&path)) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn stem(path: &Path) -> &str {
        path.file_name().and_then(|name| name.to_str()).unwrap_or("").trim_end_matches(".bpf.c")
    }

    fn compiler() -> String {
        env::var("HEDGEROW_CLANG").unwrap_or_else(|_| {
            let works = |name: &&str| {
                Command::new(name)
                    .arg("--version")
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            };
            COMPILERS.into_iter().find(works).unwrap_or(COMPILERS[0]).to_owned()
        })
    }

    fn arguments() -> Vec<String> {
        // Debian keeps <asm/types.h> in a directory per architecture, which -target bpf leaves out.
        let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let root = sysroot();
        ["-Iinclude", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("-I{root}/usr/include/{arch}-linux-gnu")])
            .collect()
    }
}

#[cfg(feature = "skeletons")]
pub use objects::skeleton;
