//! Memory of what is over, for the next connections: what was used last is still in the caches, and
//! nothing has to grow while bytes come.

use tyto_core::net::Proto;

use super::detect::Detection;

/// Places of a kind, and buffers of a size, that wait at most.
const SPARE_MAX: usize = 256;
/// Sizes of buffers, bytes: a short command or question, a hello or request, and all that
/// detection looks at with the piece that ends it.
const BUFFER_BYTES: [usize; 3] = [128, 640, 2560];

/// Detections that are over.
#[derive(Debug, Default)]
pub struct SpareDetections {
    detections: Spare<Detection>,
    pub(super) buffers: SpareBuffers,
}

/// Places of values that are over. What they held is dropped when they are used again.
#[derive(Debug)]
pub struct Spare<T>(Vec<Box<T>>);

/// Empty buffers, by size.
#[derive(Debug, Default)]
pub(super) struct SpareBuffers([Vec<Vec<u8>>; BUFFER_BYTES.len()]);

impl SpareDetections {
    /// A detection that begins.
    pub(super) fn begin(&mut self, proto: Proto) -> Box<Detection> {
        let Some(mut detection) = self.detections.0.pop() else {
            return Box::new(Detection::new(proto));
        };
        detection.begin_anew(proto);
        detection
    }

    /// Takes back one that is over.
    pub(super) fn over(&mut self, mut detection: Box<Detection>) {
        detection.give_back(&mut self.buffers);
        self.detections.over(detection);
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Spare<T> {
    /// `value` in a place that is used again, if one waits.
    pub(crate) fn place(&mut self, value: T) -> Box<T> {
        match self.take() {
            Some(mut place) => {
                *place = value;
                place
            }
            None => Box::new(value),
        }
    }

    /// A place with what it held, if one waits.
    pub(crate) fn take(&mut self) -> Option<Box<T>> {
        self.0.pop()
    }

    /// Takes the place of one that is over.
    pub(crate) fn over(&mut self, place: Box<T>) {
        if self.0.len() < SPARE_MAX {
            self.0.push(place);
        }
    }
}

impl SpareBuffers {
    /// Adds `bytes` to `buffer`, which gives way to a larger one where they do not fit.
    pub(super) fn extend(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        let len = buffer.len() + bytes.len();
        if len > buffer.capacity() {
            let mut larger = self.take(len);
            larger.extend_from_slice(buffer);
            self.give(std::mem::replace(buffer, larger));
        }
        buffer.extend_from_slice(bytes);
    }

    /// Takes back a buffer. Those of no size of ours are none.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let size = BUFFER_BYTES.iter().position(|size| *size == buffer.capacity());
        if let Some(spare) = size.and_then(|size| self.0.get_mut(size))
            && spare.len() < SPARE_MAX
        {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// An empty buffer for `len` bytes.
    fn take(&mut self, len: usize) -> Vec<u8> {
        for (size, spare) in BUFFER_BYTES.into_iter().zip(&mut self.0) {
            if len <= size {
                return spare.pop().unwrap_or_else(|| Vec::with_capacity(size));
            }
        }
        Vec::with_capacity(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_by_sizes_and_is_used_again() {
        let (mut buffers, mut buffer) = (SpareBuffers::default(), Vec::new());
        let mut expected = Vec::new();
        for (piece, capacity) in [(100, 128), (28, 128), (1, 640), (511, 640), (1460, 2560)] {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(piece).collect();
            buffers.extend(&mut buffer, &bytes);
            expected.extend_from_slice(&bytes);
            assert_eq!((&buffer, buffer.capacity()), (&expected, capacity));
        }
        buffers.extend(&mut buffer, &[0; 60_000]);
        assert_eq!(buffer.len(), 62_100);
        assert_eq!(buffers.0.each_ref().map(Vec::len), [1, 1, 1]);
        buffers.give(buffer);
        assert_eq!(buffers.0.each_ref().map(Vec::len), [1, 1, 1], "one of no size of ours");
        let again = buffers.take(300);
        assert_eq!((again.len(), again.capacity()), (0, 640));
        assert_eq!(buffers.0.each_ref().map(Vec::len), [1, 0, 1]);
    }

    #[test]
    fn not_more_than_so_many_wait() {
        let mut spare = SpareDetections::default();
        let many: Vec<_> = (0..2 * SPARE_MAX).map(|_| spare.begin(Proto::Tcp)).collect();
        many.into_iter().for_each(|detection| spare.over(detection));
        assert_eq!(spare.detections.0.len(), SPARE_MAX);
    }
}
