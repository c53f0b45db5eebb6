//! The cluster command: runs several nodes on this machine behind one TCP port, or prints the nodes that Redis knows.

mod status;

use clap::{Args, Subcommand};

use super::address::Public;
use super::configured::configured_store;
use super::{Command, ExitCode, Serve, complain};
use crate::limits::MACHINE_NODES;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Cluster<A: Args> {
    #[command(subcommand)]
    about: Option<About>,
    /// Number of nodes, or auto for one per core.
    #[arg(long, value_name = "auto|N", value_parser = nodes, default_value = "auto")]
    nodes: Nodes,
    /// The process is the node of this name, whose parent is at the other end of its standard input.
    #[arg(long, hide = true)]
    child: Option<String>,
    #[command(flatten)]
    pub(super) serve: A,
}

#[derive(Debug, Subcommand)]
enum About {
    /// Print the nodes of a cluster that Redis knows, and its rooms and players in total.
    ///
    /// Exit status: 0 if Redis has answered, else 1.
    Status(status::Status),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nodes(Option<usize>);

fn nodes(text: &str) -> Result<Nodes, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Nodes(None)),
        (_, Ok(count)) if (1..=MACHINE_NODES).contains(&count) => Ok(Nodes(Some(count))),
        _ => Err(format!("expected auto or a number from 1 to {MACHINE_NODES}")),
    }
}

/// Returns the command of a node, which is that of a server, instead of the one that was given. `serve` finds the
/// options of the server among those of the command. The error is the exit status.
pub(super) fn settle<A: Args, O: Subcommand>(
    command: Command<A, O>,
    serve: impl Fn(&mut A) -> &mut Serve,
) -> Result<Command<A, O>, ExitCode> {
    let Command::Cluster(mut cluster) = command else { return Ok(command) };
    if cluster.about.is_some() {
        return Ok(Command::Cluster(cluster));
    }
    let of_server = serve(&mut cluster.serve);
    if let Some(sentence) = refusal(of_server) {
        complain(sentence);
        return Err(ExitCode::from(2));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cluster.child;
    #[cfg(target_os = "linux")]
    if let Some(name) = &cluster.child {
        of_server.link = Some(linux::link(name)?);
        return Ok(Command::Serve(cluster.serve));
    }
    let is_checked = of_server.configuration.check_config;
    Ok(if is_checked { Command::Serve(cluster.serve) } else { Command::Cluster(cluster) })
}

/// Why these options are of no use to several nodes.
fn refusal(serve: &Serve) -> Option<&'static str> {
    let Serve { network, operators, .. } = serve;
    if !cfg!(target_os = "linux") {
        return Some("nodes that share a port need Linux: start each node by itself, with --redis");
    }
    if network.encryption.is_enabled() {
        return Some(
            "nodes that share a port have no TLS, as their parent looks at which node a connection is for: leave \
            --tls-cert, --tls-key and --tls-dev out, and put a reverse proxy with TLS in front",
        );
    }
    if operators.agones {
        return Some("Agones starts each node by itself: use --agones without the command cluster, with --redis");
    }
    if network.public_addr.iter().any(Public::has_port) {
        return Some("each node has a UDP port of its own: leave the port of --public-addr out, and see --udp");
    }
    None
}

/// Runs the parent of nodes, or prints what is asked for. `serve` takes the options of the server.
pub(super) fn run<A: Args, O: Subcommand>(cluster: Cluster<A>, serve: impl FnOnce(A) -> Serve) -> ExitCode {
    match cluster.about {
        Some(About::Status(status)) => status::run(&status, configured_store::<A, O>(serve)),
        None => run_parent(serve(cluster.serve), cluster.nodes),
    }
}

fn run_parent(serve: Serve, nodes: Nodes) -> ExitCode {
    #[cfg(target_os = "linux")]
    return linux::run(serve, nodes.0);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (serve, nodes.0);
        ExitCode::FAILURE
    }
}

#[cfg(target_os = "linux")]
pub(super) use self::linux::join;

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::io::{self, Write};
    use std::path::Path;

    use crate::cli::announcement::announcement;
    use crate::cli::operators::Operators;
    use crate::cli::{ExitCode, Serve, address, complain, raise_file_limit, refuse};
    use crate::driver::{BindError, Link, Node, Options, Parent, ParentOptions, Record, Store, host_name};

    /// The option of [`super::Cluster::child`].
    const CHILD: &str = "--child=";

    pub(super) fn link(name: &str) -> Result<Link, ExitCode> {
        crate::cli::log::name_node(name);
        let program = env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Link::from_stdin(&program, name).map_err(|sentence| {
            complain(&sentence);
            ExitCode::from(2)
        })
    }

    /// Returns the options of a node of this parent.
    ///
    /// # Errors
    /// The options of nodes contradict each other.
    pub(in crate::cli) fn join(options: Options, link: Link, operators: &Operators) -> Result<Options, BindError> {
        let name = link.name().to_owned();
        let node = match options.node {
            Some(mut node) => {
                node.url = node.url.map(|url| link.url(&url));
                node
            }
            None => {
                let mut node = operators.node_at(Store::of_parent(link.clone())).map_err(BindError::Node)?;
                node.url = Some(link.url(&node.url.unwrap_or_default()));
                node
            }
        };
        let of_node = |Record { directory, limit_bytes }| Record {
            directory: directory.join(&name),
            limit_bytes: (limit_bytes / link.nodes() as u64).max(1),
        };
        let mut events = options.events;
        if let Some(events) = &mut events {
            events.node.clone_from(&name);
        }
        Ok(Options {
            record: options.record.map(of_node),
            events,
            node: Some(Node { name: Some(name.clone()), ..node }),
            link: Some(link),
            ..options
        })
    }

    /// Runs the parent.
    pub(super) fn run(serve: Serve, nodes: Option<usize>) -> ExitCode {
        serve.network.logging.apply();
        if let Err(sentence) = raise_file_limit() {
            complain(&sentence);
            return ExitCode::FAILURE;
        }
        let options = serve.network.options("".into()).and_then(|options| serve.operators.apply(options));
        let options = match options {
            Ok(options) => options,
            Err(error) => return refuse(&error),
        };
        let options = match serve.access.apply(options) {
            Ok(options) => options,
            Err(sentence) => {
                complain(&sentence);
                return ExitCode::from(2);
            }
        };
        let (is_open, is_told_an_address) = (options.keys.is_none(), !options.public_addresses.is_empty());
        let parent = Parent::bind(ParentOptions {
            listen: options.listen,
            udp: options.udp,
            metrics: options.metrics,
            admin: options.admin.map(|admin| admin.listen),
            nodes,
            name: serve.operators.name().map_or_else(host_name, str::to_owned),
            has_store: options.node.is_none(),
            argument: CHILD,
        });
        let parent = match parent {
            Ok(parent) => parent,
            Err(error) => return refuse(&error),
        };
        let announce = |parent: &Parent| {
            let nodes: Vec<(&str, u16)> = parent.nodes().collect();
            let title = format!("the cluster of {} nodes", nodes.len());
            let ports: Vec<String> = nodes.iter().map(|(_, port)| port.to_string()).collect();
            let ports = format!("UDP ports {}", ports.join(", "));
            let interfaces = parent.interfaces();
            let mut lines = announcement(&title, "http", parent.local_addr(), &ports, &interfaces, is_told_an_address);
            let nodes: Vec<String> = nodes.iter().map(|(name, port)| format!("{name} (UDP port {port})")).collect();
            lines.push(format!("its nodes are {}", nodes.join(", ")));
            let of_operators =
                [("administer it", parent.admin_addr(), ""), ("metrics are", parent.metrics_addr(), "metrics")];
            for (what, at, path) in of_operators {
                lines.extend(at.map(|at| format!("{what} at {}{path}?node=NAME", address::url(at, false))));
            }
            lines.extend(is_open.then(|| "anyone may join: use --keys to require bearer tokens".to_owned()));
            for line in lines {
                // The reader may close its end after the first line.
                let _ = writeln!(io::stdout(), "rtcade: {line}");
            }
        };
        match parent.run(announce) {
            Ok(status) => status,
            Err(error) => {
                complain(&format!("the event loop of the parent failed: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}
