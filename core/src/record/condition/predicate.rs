//! What is asked of one value, with the type of its column.

use std::net::IpAddr;

use ipnet::IpNet;

/// A question about a value of the type that [`super::bind`] saw in the schema.
#[derive(Clone, Debug)]
pub(super) enum Predicate {
    /// The column has a value at all.
    IsSet,
    /// count, int, port; time and interval in microseconds, as the files have them.
    Integer(Order, i128),
    Integers(Vec<i128>),
    Double(Order, f64),
    Doubles(Vec<f64>),
    Bool(bool),
    /// string and enum; sorted.
    Strings(Vec<Box<[u8]>>),
    StringOrder(Order, Box<[u8]>),
    Contains(Box<memchr::memmem::Finder<'static>>),
    Matches(regex::bytes::Regex),
    /// addr: in one of the networks. A single address is one of full length.
    Networks(Vec<IpNet>),
    AddressOrder(Order, IpAddr),
    /// subnet: equal to one of these.
    Subnets(Vec<IpNet>),
    /// subnet: within one of these.
    Within(Vec<IpNet>),
}

/// How a value shall stand to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Predicate {
    pub(super) fn integer(&self, value: i128) -> bool {
        match self {
            Self::Integer(order, with) => order.holds(&value, with),
            Self::Integers(values) => values.binary_search(&value).is_ok(),
            _ => matches!(self, Self::IsSet),
        }
    }

    pub(super) fn double(&self, value: f64) -> bool {
        match self {
            Self::Double(order, with) => order.holds(&value, with),
            Self::Doubles(values) => values.contains(&value),
            _ => matches!(self, Self::IsSet),
        }
    }

    pub(super) fn bool(&self, value: bool) -> bool {
        match self {
            Self::Bool(wanted) => *wanted == value,
            _ => matches!(self, Self::IsSet),
        }
    }

    pub(super) fn string(&self, value: &[u8]) -> bool {
        match self {
            Self::Strings(values) => values.binary_search_by(|known| (**known).cmp(value)).is_ok(),
            Self::StringOrder(order, with) => order.holds(value, &**with),
            Self::Contains(needle) => needle.find(value).is_some(),
            Self::Matches(pattern) => pattern.is_match(value),
            _ => matches!(self, Self::IsSet),
        }
    }

    pub(super) fn addr(&self, value: IpAddr) -> bool {
        match self {
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&value)),
            Self::AddressOrder(order, with) => order.holds(&value, with),
            _ => matches!(self, Self::IsSet),
        }
    }

    pub(super) fn subnet(&self, net: IpAddr, prefix_len: u8) -> bool {
        let Ok(value) = IpNet::new(net, prefix_len) else {
            return matches!(self, Self::IsSet);
        };
        match self {
            Self::Subnets(networks) => networks.contains(&value.trunc()),
            Self::Within(networks) => networks.iter().any(|network| network.contains(&value)),
            _ => matches!(self, Self::IsSet),
        }
    }
}
