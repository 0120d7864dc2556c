//! `corpus unpack FILE FOLDER` writes the inputs of a packed corpus as files, `corpus pack FOLDER FILE` packs them.

use std::path::Path;
use std::{env, fs, io};

use llamatok_fuzz::packed;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", file, folder] => {
            fs::create_dir_all(folder)?;
            for (number, input) in packed::unpack(&fs::read(file)?).into_iter().enumerate() {
                fs::write(Path::new(folder).join(format!("seed-{number:04}")), input)?;
            }
            Ok(())
        }
        ["pack", folder, file] => fs::write(file, packed::pack(Path::new(folder))?),
        _ => Err(io::Error::other("say `unpack FILE FOLDER` or `pack FOLDER FILE`")),
    }
}
