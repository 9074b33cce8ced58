//! Rules of single log streams, and what clocks and formats that change do to files.

use super::*;

fn stream(change: impl Fn(&mut StreamLogs)) -> World {
    let mut world = World::new(LogFormats::Tsv);
    world.store.take().unwrap().close().unwrap();
    let mut config = LogsConfig { compress: Compression::Off, ..LogsConfig::default() };
    change(config.streams.entry("conn".into()).or_default());
    world.open_with(config);
    world
}

fn texts(world: &mut World) -> Vec<(String, String)> {
    world.store.take().unwrap().close().unwrap();
    let day = fs::read_dir(world.dir.path().join("logs/1970-02-11")).into_iter().flatten();
    let mut texts: Vec<_> = day
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect();
    texts.sort();
    texts
}

#[test]
fn columns_are_chosen_or_left_out_by_name() {
    for (fields, exclude) in [(Some(vec!["seq"]), None), (None, Some(vec!["producer", "more"]))] {
        let owned = |names: &Option<Vec<&str>>| {
            names.as_ref().map(|names| names.iter().map(|name| (*name).to_owned()).collect())
        };
        let mut world = stream(|conn| {
            conn.fields = owned(&fields);
            conn.exclude_fields = owned(&exclude);
        });
        world.run(&Step::Rows { producer: 1, rows: 2 });
        // The other release has a column more, of which nothing is written: one file takes both.
        world.run(&Step::Upgrade { producer: 1 });
        world.run(&Step::Rows { producer: 1, rows: 1 });
        world.commit();
        let texts = texts(&mut world);
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].1.contains("#fields\tseq\n#types\tcount\n0\n1\n2\n#close"), "{texts:?}");
    }
}

#[test]
fn a_stream_that_is_not_written_is_counted_and_acked() {
    let mut world = stream(|conn| conn.write = Some(false));
    world.run(&Step::Rows { producer: 0, rows: 7 });
    world.commit();
    assert!(world.producers[0].unacked.is_empty());
    let filtered: Vec<u64> = world.store().filtered().map(|(_, _, rows)| rows).collect();
    let written: Vec<u64> = world.store().written().map(|(_, _, rows)| rows).collect();
    assert_eq!((filtered, written), (vec![7], vec![7]));
    assert_eq!(texts(&mut world), []);
}

#[test]
fn a_stream_has_an_interval_of_its_own() {
    let mut world = stream(|conn| conn.rotation_interval_s = Some(600));
    world.run(&Step::Rows { producer: 0, rows: 1 });
    world.run(&Step::Wait { seconds: 601 });
    world.run(&Step::Rows { producer: 0, rows: 1 });
    world.run(&Step::Wait { seconds: 600 });
    world.commit();
    let names: Vec<String> = texts(&mut world).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["conn.16:00:00-16:10:00.log", "conn.16:10:00-16:20:00.log"]);
}

/// Tyto's own clock steps: an hour forward and back again, and an hour back.
#[test]
fn a_clock_that_jumps_neither_doubles_names_nor_loses_rows() {
    for jumps in [[3_600_i64, -3_600], [-3_600, 3_600], [-3_600, 0], [7_200, -7_100]] {
        let mut world = World::new(LogFormats::Tsv);
        for jump in jumps {
            for _ in 0..3 {
                world.run(&Step::Rows { producer: 0, rows: 1 });
                world.run(&Step::Wait { seconds: 1_500 });
            }
            let now = world.now.load(Ordering::Relaxed).cast_signed() + jump * NANOS.cast_signed();
            world.now.store(now.cast_unsigned(), Ordering::Relaxed);
            world.store().tick().unwrap();
        }
        let expected = world.expected(|_| true);
        assert_eq!(world.archived_rows(), expected, "{jumps:?}");
    }
}

/// What was tab-separated in the last life is not continued in JSON.
#[test]
fn another_format_after_a_crash_ends_the_file() {
    let mut world = World::new(LogFormats::Tsv);
    world.run(&Step::Rows { producer: 0, rows: 2 });
    world.commit();
    world.format = LogFormats::Json;
    world.run(&Step::Crash { torn: 3 });
    world.run(&Step::Rows { producer: 0, rows: 2 });
    world.commit();
    let texts = texts(&mut world);
    let first: Vec<char> = texts.iter().map(|(_, text)| text.chars().next().unwrap()).collect();
    assert_eq!(first.len(), 2);
    assert!(first.contains(&'#') && first.contains(&'{'), "{texts:?}");
}
