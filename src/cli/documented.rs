//! The documentation names commands and options that there are, and all of them; so do the manifests for Kubernetes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use super::shipped::{ServeShipped, ShippedCommand};
use super::{Command, CommandLine, Serve};

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
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let own = shown.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
    own.chain(command.get_subcommands().flat_map(longs)).collect()
}

#[test]
fn the_page_of_the_command_line_has_all_options_and_no_others() {
    let page = include_str!("../../docs/src/command-line.md");
    let mut command = Shipped::command();
    command.build();
    let of_server = command.find_subcommand("serve").map(longs).expect("there is a server");
    for command in command.get_subcommands() {
        let heading = format!("\n## rtcade {}\n", command.get_name());
        let (_, section) = page.split_once(&heading).unwrap_or_else(|| panic!("there is no section{heading}"));
        let section = section.split("\n## ").next().unwrap_or(section);
        let quoted = section.split('`').skip(1).step_by(2);
        let named: BTreeSet<_> =
            quoted.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")).map(str::to_owned).collect();
        let options: BTreeSet<_> = longs(command).into_iter().filter(|long| long != "--help").collect();
        // Their options are those of a server, which its own section lists.
        let is_above = |long: &str| ["cluster", "dev"].contains(&command.get_name()) && of_server.contains(long);
        let missing = options.difference(&named).filter(|long| *long != "--verbose" && !is_above(long));
        let missing: Vec<_> = missing.collect();
        let unknown: Vec<_> = named.difference(&options).filter(|long| *long != "--help").collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{heading}missing {missing:?}, unknown {unknown:?}");
    }
}

/// The documents of a manifest for Kubernetes.
fn manifests(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)).expect("text");
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect()
}

fn port_of(serve: &Serve) -> u16 {
    serve.network.listen.first("--listen").expect("an address").port()
}

/// The server that the only container of a pod starts, once its ports and its end are found to fit its options.
fn server_of(pod: &Value) -> Serve {
    let [container] = &pod["containers"].as_array().expect("containers")[..] else { panic!("{pod}") };
    let arguments = container["args"].as_array().expect("arguments").iter().map(|it| it.as_str().expect("a string"));
    let parsed = Shipped::try_parse_from(std::iter::once("rtcade").chain(arguments)).expect("a command line");
    let Some(Command::Serve(ServeShipped { serve, .. })) = parsed.command else { panic!("{container}") };
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(grace > serve.drain && serve.drain > 0, "{grace} s, {} s", serve.drain);
    let metrics = serve.operators.metrics.as_ref().expect("an address for metrics");
    let metrics = metrics.first("--metrics").expect("an address").port();
    let ports = container["ports"].as_array().expect("ports");
    for port in ports {
        let expected = if port["name"] == "metrics" { metrics } else { port_of(&serve) };
        assert_eq!(port["containerPort"], expected, "{port}");
        assert!(port["hostPort"].is_null() || port["hostPort"] == expected, "{port}");
    }
    for probe in [&container["livenessProbe"], &container["readinessProbe"]].into_iter().filter(|it| it.is_object()) {
        let request = &probe["httpGet"];
        assert!(ports.iter().any(|port| port["name"] == request["port"] && port["protocol"] == "TCP"), "{probe}");
        assert!(["/healthz", "/readyz"].contains(&request["path"].as_str().expect("a path")), "{probe}");
    }
    serve
}

#[test]
fn the_fleet_has_the_ports_and_the_counters_of_its_servers() {
    let [fleet] = &manifests("agones/fleet.yaml")[..] else { panic!("one document") };
    assert_eq!((&fleet["apiVersion"], &fleet["kind"]), (&"agones.dev/v1".into(), &"Fleet".into()));
    let game_server = &fleet["spec"]["template"]["spec"];
    let serve = server_of(&game_server["template"]["spec"]);
    assert!(serve.operators.agones);
    let ports = game_server["ports"].as_array().expect("ports");
    assert_eq!(ports.len(), 2);
    for (port, (name, protocol)) in ports.iter().zip([("udp", "UDP"), ("tcp", "TCP")]) {
        assert_eq!((&port["name"], &port["protocol"]), (&name.into(), &protocol.into()));
        assert_eq!(port["containerPort"], port_of(&serve));
        assert_eq!(port["portPolicy"], "Dynamic");
    }
    let capacities = [("rooms", serve.max_rooms), ("players", serve.max_rooms * serve.max_players())];
    let counters = game_server["counters"].as_object().expect("counters");
    assert_eq!(counters.len(), capacities.len());
    for (name, capacity) in capacities {
        assert_eq!(counters[name], serde_json::json!({ "count": 0, "capacity": capacity }), "{name}");
    }
}

#[test]
fn the_stateful_set_has_the_services_of_its_pods() {
    let documents = manifests("kubernetes/statefulset.yaml");
    let of_kind = |kind: &str| documents.iter().filter(|it| it["kind"] == kind).collect::<Vec<_>>();
    let [set] = of_kind("StatefulSet")[..] else { panic!("one set") };
    let serve = server_of(&set["spec"]["template"]["spec"]);
    assert!(!serve.operators.agones);
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let names: Vec<_> = container["ports"].as_array().expect("ports").iter().map(|port| &port["name"]).collect();
    let (headless, of_pods): (Vec<_>, Vec<_>) =
        of_kind("Service").into_iter().partition(|service| service["spec"]["clusterIP"] == "None");
    let [headless] = headless[..] else { panic!("one that names the pods") };
    assert_eq!(headless["metadata"]["name"], set["spec"]["serviceName"]);
    assert_eq!(&headless["spec"]["selector"], labels);
    let pods = set["spec"]["replicas"].as_u64().expect("a number");
    let expected: Vec<_> =
        (0..pods).map(|n| format!("{}-{n}", set["metadata"]["name"].as_str().expect("a name"))).collect();
    let selected: Vec<_> =
        of_pods.iter().map(|service| &service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"]).collect();
    assert_eq!(selected, expected.iter().map(String::as_str).collect::<Vec<_>>());
    for service in of_kind("Service") {
        for port in service["spec"]["ports"].as_array().expect("ports") {
            assert!(names.contains(&&port["targetPort"]) && port["port"] == port_of(&serve), "{port}");
        }
    }
}
