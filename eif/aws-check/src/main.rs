//! Says of images what AWS's library says, one JSON object a line.
//!
//!     aws-check read IMAGE...
//!     aws-check write OUT KERNEL COMMAND_LINE RAMDISK...

use std::env;
use std::fs::File;
use std::path::Path;

use aws_nitro_enclaves_image_format::defs::{EifBuildInfo, EifIdentityInfo};
use aws_nitro_enclaves_image_format::utils::eif_reader::EifReader;
use aws_nitro_enclaves_image_format::utils::{EifBuilder, PcrSignatureChecker};
use serde_json::{json, Value};
use sha2::{Digest, Sha384};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.split_first() {
        Some((order, images)) if order == "read" => {
            for image in images {
                let said = read(image).unwrap_or_else(|reason| json!({ "refused": reason }));
                println!("{said}");
            }
        }
        Some((order, parts)) if order == "write" && parts.len() >= 4 => write(parts),
        _ => panic!("read IMAGE... or write OUT KERNEL COMMAND_LINE RAMDISK... expected"),
    }
}

/// Measures an image, checks its checksum and, where there is one, its signature.
fn read(image: &str) -> Result<Value, String> {
    let mut reader = EifReader::from_eif(image.to_string())?;
    let mut checker = PcrSignatureChecker::from_eif(image)?;
    let signature = match checker.is_empty() {
        true => Value::Null,
        false => match checker.verify() {
            Ok(()) => json!("valid"),
            Err(reason) => json!(reason),
        },
    };
    Ok(json!({
        "crc": reader.check_crc(),
        "measurements": reader.get_measurements()?,
        "name": reader.get_metadata().map(|told| told.img_name),
        "signature": signature,
    }))
}

/// Makes an image of parts and says what it measures.
fn write(parts: &[String]) {
    let about = EifIdentityInfo {
        img_name: "second-opinion".to_string(),
        img_version: "1".to_string(),
        build_info: EifBuildInfo {
            build_time: "never".to_string(),
            build_tool: "aws-check".to_string(),
            build_tool_version: "1".to_string(),
            img_os: "Linux".to_string(),
            img_kernel: "none".to_string(),
        },
        docker_info: json!({}),
        custom_info: json!({}),
    };
    let command_line = parts[2].clone();
    let mut builder = EifBuilder::new(
        Path::new(&parts[1]),
        command_line,
        None,
        Sha384::new(),
        0,
        about,
    );
    for ramdisk in &parts[3..] {
        builder.add_ramdisk(Path::new(ramdisk));
    }
    let mut out = File::create(&parts[0]).expect("a file to write");
    println!("{}", json!({ "measurements": builder.write_to(&mut out) }));
}
