//! Writes the seeds of every target to `corpus/<target>`, from where `cargo fuzz` takes them.

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in server::fuzzing::TARGETS {
        let (seeds, folder) = ((target.seeds)(), corpus.join(target.name));
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
        }
        println!("{}: {} bytes", target.name, seeds.iter().map(Vec::len).sum::<usize>());
    }
    Ok(())
}
