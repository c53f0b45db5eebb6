//! The `rtcade` program: the shipped games behind one command line.

fn main() -> rtcade::ExitCode {
    rtcade::cli::main()
}
