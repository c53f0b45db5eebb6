//! The documentation names commands and options that there are, and all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};

use super::{CommandLine, ServeShipped, ShippedCommand};

type Shipped = CommandLine<ServeShipped, ShippedCommand>;

fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = fs::read_dir(root.join("docs/src")).expect("the book can be read");
    let pages = book.map(|entry| entry.expect("the book can be read").path());
    let others = ["README.md", "client-js/README.md", "benches/load/README.md"].map(|path| root.join(path));
    let pages = pages.chain(others).filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.display().to_string(), fs::read_to_string(path).expect("a page is text"))).collect()
}

/// The arguments of a command line that runs a program of ours.
fn arguments(line: &str) -> Option<Vec<&str>> {
    let line = line.split(" #").next().unwrap_or(line);
    let of_cargo = || line.strip_prefix("cargo run ")?.split_once("-- ").filter(|(before, _)| !before.contains('&'));
    let of_docker = || line.strip_prefix("docker run ")?.split_once(" rtcade ");
    let arguments = match line.strip_prefix("rtcade") {
        Some(arguments) if arguments.is_empty() || arguments.starts_with(' ') => arguments,
        Some(_) => return None,
        None => of_cargo().or_else(of_docker)?.1,
    };
    Some(arguments.split_whitespace().take_while(|word| !matches!(*word, ">" | "|" | "&&")).collect())
}

/// The lines of shell blocks, and what stands in backticks and has options.
fn command_lines(page: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut language = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), language) {
            (Some(_), Some(_)) => language = None,
            (Some(fence), None) => language = Some(fence),
            (None, Some("sh")) => lines.extend(line.split(" && ")),
            (None, Some(_)) => {}
            (None, None) => {
                let quoted = line.split('`').skip(1).step_by(2);
                lines.extend(quoted.filter(|text| text.contains(" --") && !text.contains(['[', '…'])));
            }
        }
    }
    lines
}

#[test]
fn commands_in_the_documentation_can_be_run() {
    let mut run = 0;
    for (path, page) in pages() {
        for line in command_lines(&page) {
            let Some(arguments) = arguments(line) else { continue };
            let parsed = Shipped::try_parse_from(std::iter::once("rtcade").chain(arguments));
            assert!(parsed.is_ok(), "{path}: {line}\n{}", parsed.unwrap_err());
            run += 1;
        }
    }
    assert!(run > 30, "{run}");
}

fn longs(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
    own.chain(command.get_subcommands().flat_map(longs)).collect()
}

#[test]
fn the_page_of_the_command_line_has_all_options_and_no_others() {
    let page = include_str!("../../docs/src/command-line.md");
    let mut command = Shipped::command();
    command.build();
    for command in command.get_subcommands() {
        let heading = format!("\n## rtcade {}\n", command.get_name());
        let (_, section) = page.split_once(&heading).unwrap_or_else(|| panic!("there is no section{heading}"));
        let section = section.split("\n## ").next().unwrap_or(section);
        let quoted = section.split('`').skip(1).step_by(2);
        let named: BTreeSet<_> =
            quoted.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")).map(str::to_owned).collect();
        let options: BTreeSet<_> = longs(command).into_iter().filter(|long| long != "--help").collect();
        let missing: Vec<_> = options.difference(&named).filter(|long| *long != "--verbose").collect();
        let unknown: Vec<_> = named.difference(&options).filter(|long| *long != "--help").collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{heading}missing {missing:?}, unknown {unknown:?}");
    }
}
