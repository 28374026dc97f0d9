mod builder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    builder::wire_types("include/wire.h")?;
    #[cfg(feature = "skeletons")]
    {
        builder::skeleton("sensor", |stem| !stem.starts_with("deny") && stem != "bench")?;
        builder::skeleton("deny", |stem| stem.starts_with("deny"))?;
        builder::skeleton("bench", |stem| stem == "bench")?;
    }
    Ok(())
}
