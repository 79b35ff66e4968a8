//! Writes the seeds of every target to `corpus/<target>`, from where `cargo fuzz` takes them.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in store_fuzz::TARGETS {
        let written = store_fuzz::replay::write_seeds(&(target.seeds)(), &corpus.join(target.name));
        match written {
            Ok(bytes) => println!("{}: {bytes} bytes", target.name),
            Err(error) => {
                eprintln!("{}: {error}", target.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
