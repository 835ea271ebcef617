//! What a pickle of PyTorch's says of the tensors beside it; nothing is executed.
//!
//! A pickle is a program for a stack machine which may call any function of
//! Python's. This machine has no functions: it knows the names by which PyTorch
//! writes a dictionary of tensors, and whatever else a pickle calls becomes an
//! opaque value. Objects lie side by side in one arena and refer to each other by
//! index, texts stay where they stand in the pickle, and what is copied of an object has
//! a limit of its own, so that time and memory grow with the pickle's length alone: neither
//! a deep nest nor one object a thousand times over costs more than its bytes.
//!
//! Opcodes are those of Python's `pickletools`; the arguments of the calls are in
//! PyTorch's `torch/_utils.py` and `torch/serialization.py`.

use safetensors::tensor::Dtype;
use std::collections::{HashMap, HashSet};

/// Longer pickles are rejected: the largest models have some hundred kilobytes.
const MAX_LEN: usize = 4 << 20;

/// Of a storage's name, which is looked up for each tensor; PyTorch's are numbers.
const MAX_KEY_LEN: usize = 64;

/// Of a tensor, whose shape and strides are copied.
const MAX_DIMS: usize = 8;

/// A tensor, and where in which storage its elements are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Elements to skip in the storage.
    pub(crate) offset: usize,
    /// How far apart neighbours stand, in elements, by dimension.
    pub(crate) stride: Vec<usize>,
    /// The storage's name in the archive.
    pub(crate) storage: &'a str,
}

/// The tensors of a `state_dict`, in its order.
pub(crate) fn state_dict(pickle: &[u8]) -> Result<Vec<StoredTensor<'_>>, String> {
    if pickle.len() > MAX_LEN {
        return Err(format!("its pickle has more than {MAX_LEN} bytes"));
    }
    let mut machine = Machine {
        rest: pickle,
        stack: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
    };
    let top = machine.run()?;
    machine.tensors(top)
}

/// What the stack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Mark,
    Int(i64),
    /// In the arena.
    Object(usize),
    /// None, a boolean, a float: nothing that a tensor is made of.
    Opaque,
}

#[derive(Debug)]
enum Object<'a> {
    Text(&'a str),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Name(Name),
    Storage(Dtype, &'a str),
    Tensor(StoredTensor<'a>),
}

/// The names that mean something here.
#[derive(Debug, Clone, Copy)]
enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
    Other,
}

impl Name {
    fn of(module: &str, name: &str) -> Self {
        match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::BF16),
            ("torch", "DoubleStorage") => Self::Storage(Dtype::F64),
            ("torch", "LongStorage") => Self::Storage(Dtype::I64),
            ("torch", "IntStorage") => Self::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Self::Storage(Dtype::I16),
            ("torch", "CharStorage") => Self::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Self::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Self::Storage(Dtype::BOOL),
            _ => Self::Other,
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    objects: Vec<Object<'a>>,
}

impl<'a> Machine<'a> {
    /// Runs the pickle to its end; what it leaves.
    fn run(&mut self) -> Result<Value, String> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // PROTO, FRAME: what the pickle is, not what is in it.
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            b'(' => self.stack.push(Value::Mark),
            // POP; and BUILD, whose object stays as it is without its state.
            b'0' | b'b' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            // None, true, false, and floats.
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Opaque),
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Opaque);
            }
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'X' => {
                let len = u32::from_le_bytes(self.array()?);
                self.text(len as usize)?;
            }
            0x8c => {
                let len = self.byte()?;
                self.text(len.into())?;
            }
            b')' => self.put(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let len = usize::from(opcode - 0x84);
                let items = self.pop_many(len)?;
                self.put(Object::Tuple(items));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.put(Object::Tuple(items));
            }
            b']' => self.put(Object::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(&items)?;
            }
            b'}' => self.put(Object::Dict(Vec::new())),
            b's' => {
                let pair = self.pop_many(2)?;
                self.set(&pair)?;
            }
            b'u' => {
                let pairs = self.pop_to_mark()?;
                self.set(&pairs)?;
            }
            b'q' => {
                let slot = self.byte()?;
                self.remember(slot.into())?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let slot = self.byte()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.recall(slot)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.put(Object::Name(Name::of(module, name)));
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let name = Name::of(self.text_of(names[0])?, self.text_of(names[1])?);
                self.put(Object::Name(name));
            }
            b'Q' => self.persistent()?,
            b'R' => self.call()?,
            // An instance of a class: nothing that a tensor is made of.
            0x81 => {
                self.pop_many(2)?;
                self.stack.push(Value::Opaque);
            }
            other => return Err(format!("its pickle has the unknown opcode {other:#04x}")),
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many as were taken"))
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(cut_short)?)?;
        self.byte()?;
        str::from_utf8(line).map_err(|e| e.to_string())
    }

    fn int(&mut self, len: usize) -> Result<(), String> {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(self.take(len)?);
        self.stack.push(Value::Int(i64::from_le_bytes(bytes)));
        Ok(())
    }

    /// A whole number of up to eight bytes; a longer one is no size of anything here.
    fn long(&mut self) -> Result<(), String> {
        let len = usize::from(self.byte()?);
        let bytes = self.take(len)?;
        let value = match len {
            0 => Value::Int(0),
            1..=8 => {
                let sign = if bytes[len - 1] & 0x80 == 0 { 0 } else { 0xff };
                let mut all = [sign; 8];
                all[..len].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(all))
            }
            _ => Value::Opaque,
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, len: usize) -> Result<(), String> {
        let text = str::from_utf8(self.take(len)?).map_err(|e| e.to_string())?;
        self.put(Object::Text(text));
        Ok(())
    }

    /// Puts an object into the arena and on the stack.
    fn put(&mut self, object: Object<'a>) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(unsound)
    }

    /// The last `len` values, in the order in which they were pushed.
    fn pop_many(&mut self, len: usize) -> Result<Vec<Value>, String> {
        let start = self.stack.len().checked_sub(len).ok_or_else(unsound)?;
        Ok(self.stack.split_off(start))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|&value| value == Value::Mark);
        let items = self.stack.split_off(mark.ok_or_else(unsound)? + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or_else(unsound)?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value = *self.memo.get(&slot).ok_or_else(unsound)?;
        self.stack.push(value);
        Ok(())
    }

    fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }

    fn top_object(&mut self) -> Result<Option<&mut Object<'a>>, String> {
        match self.stack.last().ok_or_else(unsound)? {
            &Value::Object(index) => Ok(self.objects.get_mut(index)),
            _ => Ok(None),
        }
    }

    /// Appends to the list on top; to what is opaque, nothing is added.
    fn extend(&mut self, items: &[Value]) -> Result<(), String> {
        if let Some(Object::List(list)) = self.top_object()? {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    /// Adds pairs to the dictionary on top; to what is opaque, nothing is added.
    fn set(&mut self, pairs: &[Value]) -> Result<(), String> {
        let (pairs, rest) = pairs.as_chunks();
        if !rest.is_empty() {
            return Err(unsound());
        }
        if let Some(Object::Dict(dict)) = self.top_object()? {
            dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Ok(())
    }

    fn text_of(&self, value: Value) -> Result<&'a str, String> {
        match self.object(value) {
            Some(Object::Text(text)) => Ok(text),
            _ => Err(unsound()),
        }
    }

    fn tuple(&self, value: Value) -> Result<&[Value], String> {
        match self.object(value) {
            Some(Object::Tuple(items)) => Ok(items),
            _ => Err(unsound()),
        }
    }

    /// `("storage", type, key, location, length)`: a file of the archive.
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let &[_, kind, key, ..] = self.tuple(id)? else {
            return Err(unsound());
        };
        let Some(Object::Name(Name::Storage(dtype))) = self.object(kind) else {
            // Of a type that is not known: nothing that a model's weights are.
            self.stack.push(Value::Opaque);
            return Ok(());
        };
        let key = self.text_of(key)?;
        if key.len() > MAX_KEY_LEN {
            return Err(format!(
                "its pickle names a storage by more than {MAX_KEY_LEN} bytes"
            ));
        }
        self.put(Object::Storage(*dtype, key));
        Ok(())
    }

    /// What a call returns, as far as it matters; nothing is called.
    fn call(&mut self) -> Result<(), String> {
        let [function, arguments] = self.pop_many(2)?[..] else {
            return Err(unsound());
        };
        match self.object(function) {
            Some(Object::Name(Name::OrderedDict)) => self.put(Object::Dict(Vec::new())),
            Some(Object::Name(Name::RebuildTensor)) => match self.rebuilt(arguments)? {
                Some(tensor) => self.put(Object::Tensor(tensor)),
                None => self.stack.push(Value::Opaque),
            },
            Some(Object::Name(Name::RebuildParameter)) => {
                let tensor = *self.tuple(arguments)?.first().ok_or_else(unsound)?;
                self.stack.push(tensor);
            }
            _ => self.stack.push(Value::Opaque),
        }
        Ok(())
    }

    /// `(storage, offset, size, stride, ...)`; its name is not known yet.
    fn rebuilt(&self, arguments: Value) -> Result<Option<StoredTensor<'a>>, String> {
        let &[storage, Value::Int(offset), size, stride, ..] = self.tuple(arguments)? else {
            return Err(unsound());
        };
        let Some(Object::Storage(dtype, storage)) = self.object(storage) else {
            return Ok(None);
        };
        let sizes = |value| {
            let sizes = self.tuple(value)?;
            if sizes.len() > MAX_DIMS {
                return Err(format!(
                    "its pickle has a tensor of more than {MAX_DIMS} dimensions"
                ));
            }
            let sizes = sizes.iter().map(|&size| match size {
                Value::Int(size) => usize::try_from(size).map_err(|_| unsound()),
                _ => Err(unsound()),
            });
            sizes.collect::<Result<Vec<usize>, String>>()
        };
        Ok(Some(StoredTensor {
            name: "",
            dtype: *dtype,
            shape: sizes(size)?,
            offset: usize::try_from(offset).map_err(|_| unsound())?,
            stride: sizes(stride)?,
            storage,
        }))
    }

    /// The tensors of the dictionary that the pickle left, or of the one that it calls
    /// `state_dict`, as training programs save it.
    fn tensors(&self, top: Value) -> Result<Vec<StoredTensor<'a>>, String> {
        let dict = |value| match self.object(value) {
            Some(Object::Dict(pairs)) => Some(pairs),
            _ => None,
        };
        let mut pairs = dict(top).ok_or("its pickle holds no dictionary of tensors")?;
        let nested = pairs.iter().find_map(|&(key, value)| {
            (self.text_of(key) == Ok("state_dict")).then(|| dict(value))?
        });
        if let Some(nested) = nested {
            pairs = nested;
        }
        let mut seen = HashSet::new();
        let mut named = Vec::new();
        for &(key, value) in pairs {
            let (Ok(name), Some(Object::Tensor(tensor))) = (self.text_of(key), self.object(value))
            else {
                continue;
            };
            // One text may be the key of any number of pairs.
            if !seen.insert(name) {
                return Err("its pickle names two tensors alike".to_owned());
            }
            named.push(StoredTensor {
                name,
                ..tensor.clone()
            });
        }
        Ok(named)
    }
}

fn cut_short() -> String {
    "its pickle is cut short".to_owned()
}

fn unsound() -> String {
    "its pickle is not sound".to_owned()
}

#[cfg(test)]
pub(crate) mod tests;
