//! What goes into a router's flash: the static program, and the package that brings it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lab::agent;
use super::row::{Row, note};

/// Rust's name of an architecture, and OpenWrt's.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "x86_64"), ("aarch64", "aarch64_generic")];

pub fn measure() {
    let dynamic = size(&agent::binary());
    for (rust, openwrt) in ARCHITECTURES {
        // The scripts install what they need and say so: the table is on standard output.
        let built = Command::new("scripts/build-ipk.sh")
            .arg(openwrt)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(built.success(), "scripts/build-ipk.sh {openwrt}: {built}");
        let program = size(Path::new(&format!("target/static/{rust}/qod-agent")));
        let package = size(&package(openwrt));
        Row::new(format!("static program, {rust}"), mega(program))
            .baseline(format!("{} dynamic, x86_64", mega(dynamic)))
            .ratio(ratio(program, dynamic))
            .promised("at most 3.9 MB", program <= 3_900_000)
            .print();
        Row::new(format!(".ipk, {openwrt}"), mega(package))
            .baseline(format!("{} the program in it", mega(program)))
            .ratio(ratio(package, program))
            .promised("at most 1.8 MB", package <= 1_800_000)
            .print();
    }
    note("the static programs have their C library in them, the dynamic one has not");
}

fn package(architecture: &str) -> PathBuf {
    let folder = format!("target/openwrt/{architecture}");
    let version = env!("CARGO_PKG_VERSION");
    let mut found = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    found
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("qod-agent_{version}-")) && name.ends_with(".ipk")
        })
        .unwrap()
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

fn mega(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn ratio(of: u64, to: u64) -> String {
    format!("{:.2}", of as f64 / to as f64)
}
