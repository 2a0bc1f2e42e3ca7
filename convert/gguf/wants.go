package gguf

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// want is a tensor that a loader asks for.
type want struct {
	names    []string // any of them will do; blk. stands for each block
	dims     []string // see tensors.txt
	only     string   // dense, moe, lora, plain, shared or ""
	optional bool
}

// wants are the tensors of an architecture.
type wants struct {
	tensors []want
	closed  bool // its loader refuses other tensors
}

//go:embed tensors.txt
var wantsText string

var allWants = sync.OnceValue(func() map[string]*wants {
	all := make(map[string]*wants)
	var now []*wants
	for line := range strings.Lines(wantsText) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if strings.HasPrefix(line, "[") {
			archs, engine, _ := strings.Cut(strings.Trim(line, "[]\n"), ": ")
			now = nil
			for _, arch := range strings.Fields(archs) {
				all[arch] = &wants{closed: engine == "llama.cpp"}
				now = append(now, all[arch])
			}
			continue
		}
		for _, w := range now {
			w.line(fields, all)
		}
	}
	return all
})

// line takes a line of the table.
func (w *wants) line(fields []string, all map[string]*wants) {
	t := want{optional: fields[0] == "?"}
	switch fields[0] {
	case "+":
		w.tensors = slices.Clone(all[fields[1]].tensors)
		return
	case "-":
		w.tensors = slices.DeleteFunc(w.tensors,
			func(t want) bool { return t.names[0] == fields[1] })
		return
	case "?", "!":
		fields = fields[1:]
	}
	if strings.HasPrefix(fields[0], "(") {
		t.only, fields = strings.Trim(fields[0], "()"), fields[1:]
	}
	t.names, t.dims = strings.Split(fields[0], "|"), fields[1:]
	w.tensors = append(w.tensors, t)
}

// model is a file by the counts that its tensors depend on, 0 where it does not say one, and by its
// tensors.
type model struct {
	path, arch            string
	blocks, dense         int // the first blocks are dense
	experts, shared, lora int
	size                  map[string]int // of the dimensions
	there                 map[string]*Tensor
	wanted                map[string]bool
	kinds                 []map[string]bool // names in each block
	beyond                string            // a tensor of a block that is not counted
}

func readModel(f *File, arch string) (*model, error) {
	m := &model{arch: arch, path: f.Path, there: make(map[string]*Tensor)}
	var embd, ffn, heads, kv, key, value int
	for name, field := range map[string]*int{
		"block_count": &m.blocks, "leading_dense_block_count": &m.dense,
		"expert_count": &m.experts, "expert_shared_count": &m.shared,
		"attention.q_lora_rank": &m.lora, "embedding_length": &embd, "feed_forward_length": &ffn,
		"attention.head_count": &heads, "attention.head_count_kv": &kv,
		"attention.key_length": &key, "attention.value_length": &value,
	} {
		n, err := f.Most(arch + "." + name)
		if err != nil {
			return nil, err
		}
		*field = n
	}
	if kv == 0 {
		kv = heads
	}
	if heads > 0 && key == 0 {
		key = embd / heads
	}
	if heads > 0 && value == 0 {
		value = embd / heads
	}
	m.size = map[string]int{
		"E": embd, "F": ffn, "2F": 2 * ffn, "Q": heads * key, "K": kv * key, "W": kv * value,
		"QKV": (heads + 2*kv) * key, "D": key, "A": heads, "X": m.experts,
	}
	if kv, ok := f.Lookup("tokenizer.ggml.tokens"); ok && kv.Type == TypeArray {
		m.size["V"] = int(kv.Len)
	}
	if m.blocks > MaxTensors {
		return nil, fmt.Errorf("%s: %w: %d blocks", f.Path, ErrTooLarge, m.blocks)
	}
	m.tensors(f)
	return m, nil
}

func (m *model) tensors(f *File) {
	m.kinds = make([]map[string]bool, m.blocks)
	for i := range m.kinds {
		m.kinds[i] = make(map[string]bool)
	}
	for i := range f.Tensors {
		t := &f.Tensors[i]
		m.there[t.Name] = t
		number, rest, ok := strings.Cut(strings.TrimPrefix(t.Name, "blk."), ".")
		n, err := strconv.Atoi(number)
		switch {
		case !ok || err != nil || !strings.HasPrefix(t.Name, "blk.") || n < 0:
		case n >= m.blocks:
			m.beyond = t.Name
		default:
			m.kinds[n][rest] = true
		}
	}
}

// in says that a tensor with a condition is one of block i.
func (m *model) in(only string, i int) bool {
	moe := m.experts > 0 && i >= m.dense
	switch only {
	case "dense":
		return !moe
	case "moe":
		return moe
	case "shared":
		return moe && m.shared > 0
	case "lora":
		return m.lora > 0
	case "plain":
		return m.lora == 0
	}
	return true
}

// CheckTensors compares the tensors of a file with those that the loader of its architecture asks
// for, by name and by shape, and names the first that differs. For an architecture without a table
// it looks for a block that has nothing, or less than most have.
func CheckTensors(f *File, arch string) error {
	m, err := readModel(f, arch)
	if err != nil {
		return err
	}
	if used, err := f.Most(arch + ".expert_used_count"); err == nil && m.experts > 0 && used == 0 {
		return fmt.Errorf("%s: the number of experts that a token goes to is missing in "+
			"config.json (num_experts_per_tok)", f.Path)
	}
	w, known := allWants()[arch]
	if known {
		err = m.compare(w)
	} else {
		err = m.uneven()
	}
	if err == nil && m.beyond != "" {
		err = fmt.Errorf("%s: tensor %q, and config.json counts %d layers: the others would be "+
			"left out", f.Path, Clip(m.beyond), m.blocks)
	}
	if err != nil || !known || !w.closed {
		return err
	}
	for i := range f.Tensors {
		switch name := f.Tensors[i].Name; {
		case m.wanted[name], StockFor(arch) != StockNothing && (name == TensorRopeFreqs ||
			name == TensorRopeLong || name == TensorRopeShort):
		default:
			return fmt.Errorf("%s: the host's loader for %s refuses files with the tensor %q",
				f.Path, arch, Clip(name))
		}
	}
	return nil
}

// compare looks for each tensor of a table.
func (m *model) compare(w *wants) error {
	m.wanted = make(map[string]bool)
	for _, t := range w.tensors {
		if !strings.HasPrefix(t.names[0], "blk.") {
			if err := m.check(t, t.names); err != nil {
				return err
			}
			continue
		}
		for i := range m.blocks {
			if !m.in(t.only, i) {
				continue
			}
			names := make([]string, len(t.names))
			for j, name := range t.names {
				names[j] = fmt.Sprintf("blk.%d.%s", i, strings.TrimPrefix(name, "blk."))
			}
			if err := m.check(t, names); err != nil {
				return err
			}
		}
	}
	return nil
}

// check looks for a tensor under any of its names.
func (m *model) check(t want, names []string) error {
	for _, name := range names {
		have, ok := m.there[name]
		if !ok {
			continue
		}
		m.wanted[name] = true
		for i, dim := range t.dims {
			want, n := uint64(m.size[dim]), uint64(1)
			if i < len(have.Dims) {
				n = have.Dims[i]
			}
			if want != 0 && n != want {
				return fmt.Errorf("%s: tensor %q has the shape %v, and dimension %d of it is %d "+
					"by the sizes that config.json gives", m.path, name, have.Dims, i+1, want)
			}
		}
		return nil
	}
	if t.optional {
		return nil
	}
	return m.missing(names[0])
}

func (m *model) missing(name string) error {
	return fmt.Errorf("%s: the tensor %q is missing, without which no engine runs a model of %s; "+
		"is the checkpoint whole, and the number of layers in config.json right?", m.path, name,
		m.arch)
}

// uneven looks for a block that has nothing, or less than most have.
func (m *model) uneven() error {
	if _, ok := m.there["token_embd.weight"]; !ok {
		return m.missing("token_embd.weight")
	}
	if i, kind := Uneven(m.kinds); i >= 0 {
		return m.missing(fmt.Sprintf("blk.%d.%s", i, kind))
	}
	return nil
}

// Uneven finds a block that has nothing, or lacks a tensor which at least half of the blocks have,
// another block having all of its and that one: models with layers of several sorts, such as
// attention and convolution, pass. kinds are the names in each block. i is -1 where there is none.
func Uneven(kinds []map[string]bool) (i int, kind string) {
	count := make(map[string]int)
	for _, block := range kinds {
		for kind := range block {
			count[kind]++
		}
	}
	for i, block := range kinds {
		for _, other := range kinds {
			var lacks []string
			for kind := range other {
				if !block[kind] && (2*count[kind] >= len(kinds) || len(block) == 0) {
					lacks = append(lacks, kind)
				}
			}
			if len(lacks) > 0 && within(block, other) {
				return i, slices.Min(lacks)
			}
		}
	}
	return -1, ""
}

func within(a, b map[string]bool) bool {
	for kind := range a {
		if !b[kind] {
			return false
		}
	}
	return true
}
