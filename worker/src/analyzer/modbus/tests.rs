//! Units, their bodies and what is wrong with them ("MODBUS Application Protocol" section 6).

use tyto_core::net::{Proto, Side};

use super::SPEC;
use crate::analyzer::conversation_tests::{Bench, hex, whole_or_in_pieces};

fn rows_of(unit: &str, side: Side) -> (Vec<String>, String) {
    let mut bench = Bench::new(&SPEC, Proto::Tcp);
    bench.send(side, &hex(unit));
    let service = bench.service();
    (bench.end(), service)
}

#[test]
fn requests_responses_and_exceptions_are_rows_however_they_are_cut() {
    let talk = [
        (Side::Orig, hex("0001 0000 0006 01 03 0000 0002  0002 0000 0006 01 05 0001 ff00")),
        (Side::Resp, hex("0001 0000 0007 01 03 04 0001 0002  0002 0000 0003 01 85 02")),
        (Side::Orig, hex("0003 0000 0002 01 07  0004 0000 0003 ff 64 00")),
    ];
    let rows = whole_or_in_pieces(&SPEC, &talk);
    let end = |row: &String| row.split("\"tid\"").nth(1).map(str::to_owned).unwrap_or_default();
    let rows: Vec<_> = rows.iter().map(end).collect();
    assert_eq!(
        rows,
        [
            r#":1,"unit":1,"func":"READ_HOLDING_REGISTERS","pdu_type":"REQ"}"#,
            r#":2,"unit":1,"func":"WRITE_SINGLE_COIL","pdu_type":"REQ"}"#,
            r#":1,"unit":1,"func":"READ_HOLDING_REGISTERS","pdu_type":"RESP"}"#,
            r#":2,"unit":1,"func":"WRITE_SINGLE_COIL_EXCEPTION","pdu_type":"RESP","exception":"ILLEGAL_DATA_ADDRESS"}"#,
            r#":3,"unit":1,"func":"READ_EXCEPTION_STATUS","pdu_type":"REQ"}"#,
            r#":4,"unit":255,"func":"unknown-100","pdu_type":"REQ"}"#,
        ]
    );
}

#[test]
fn what_is_no_unit_ends_the_analysis() {
    for unit in ["0001 0001 0006 01 03 0000 0002", "0001 0000 0001 01 03"] {
        assert_eq!(rows_of(unit, Side::Orig), (vec![], String::new()));
    }
}

#[test]
fn a_body_that_does_not_fit_its_length_leaves_the_row_and_takes_the_service() {
    for (unit, side) in [
        ("0001 0000 0004 01 03 0000", Side::Orig),
        ("0001 0000 0005 01 03 05 0001", Side::Resp),
        ("0001 0000 0006 01 05 0001 1234", Side::Orig),
        ("0001 0000 0008 01 10 0000 0002 02 00", Side::Orig),
        ("0001 0000 0004 01 14 07 06", Side::Orig),
        ("0001 0000 0006 01 18 0003 0001", Side::Resp),
        ("0001 0000 0003 01 08 00", Side::Orig),
    ] {
        let (rows, service) = rows_of(unit, side);
        let modbus = rows.iter().filter(|row| row.starts_with("modbus ")).count();
        assert_eq!((modbus, service.as_str()), (1, ""), "{unit}");
    }
}

#[test]
fn diagnostics_ask_with_known_values() {
    let (rows, service) = rows_of("0001 0000 0006 01 08 0001 ff00", Side::Orig);
    assert_eq!((rows.len(), service.as_str()), (1, "modbus"));
    let (rows, _) = rows_of("0001 0000 0006 01 08 0002 0001", Side::Orig);
    assert!(rows[1].contains("modbus_diag_invalid_request_data"), "{rows:?}");
    let (rows, _) = rows_of("0001 0000 0006 01 08 0099 0000", Side::Orig);
    assert!(rows[1].contains("modbus_diag_unknown_request_subfunction"), "{rows:?}");
}
