package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Large models come as several files, written by llama.cpp's gguf-split: PREFIX-00001-of-00003.gguf
// and so on. Each is a GGUF of its own with split.no (from 0), split.count and split.tensors.count;
// the metadata that count are the first file's.
const (
	keySplitNo      = "split.no"
	keySplitCount   = "split.count"
	keySplitTensors = "split.tensors.count"
)

func isSplitKey(key string) bool { return strings.HasPrefix(key, "split.") }

var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// openSplit opens the other parts of the model that first, opened from path, is one of. The parts
// that it opened are closed when it fails; first is not.
func openSplit(path string, first *part) (parts []*part, err error) {
	count, err := first.uint(keySplitCount)
	if errors.Is(err, errNoKey) || (err == nil && count <= 1) {
		return []*part{first}, nil
	}
	if err != nil {
		return nil, err
	}
	fail := func(p *part, format string, args ...any) error {
		return &FormatError{
			Path: p.path, Key: keySplitCount, Detail: fmt.Sprintf(format, args...),
			Err: ErrSplit,
		}
	}
	m := splitName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return nil, fail(first,
			"it is one of %d parts, but its name does not end in -00001-of-%05d.gguf, so the "+
				"others cannot be found", count, count)
	}
	if n, _ := strconv.ParseUint(m[3], 10, 64); n != count {
		return nil, fail(first, "the file says %d parts, its name %d", count, n)
	}
	if count > MaxParts {
		return nil, fail(first, "%d parts, %d is the most", count, MaxParts)
	}
	defer func() {
		if err != nil {
			for _, p := range parts {
				if p != first && p.file != nil {
					p.file.Close()
				}
			}
		}
	}()
	var tensors uint64
	for i := range count {
		p := first
		if fmt.Sprintf("%05d", i+1) != m[2] {
			name := filepath.Join(filepath.Dir(path),
				fmt.Sprintf("%s-%05d-of-%05d.gguf", m[1], i+1, count))
			p, err = openPart(name)
			if errors.Is(err, fs.ErrNotExist) {
				return parts, fail(first, "part %d of %d is missing: no file %s", i+1, count, name)
			}
			if err != nil {
				return parts, err
			}
		}
		parts = append(parts, p)
		no, err := p.uint(keySplitNo)
		if err != nil {
			return parts, err
		}
		if n, err := p.uint(keySplitCount); err != nil || n != count || no != i {
			return parts, fail(p, "the name says part %d of %d, the file part %d of %d", i+1, count,
				no+1, n)
		}
		tensors += uint64(len(p.tensors))
	}
	if want, err := parts[0].uint(keySplitTensors); err == nil && want != tensors {
		return parts, fail(parts[0], "%d tensors in all parts, %s says %d", tensors,
			keySplitTensors, want)
	}
	return parts, nil
}

// uint reads an integer of one part's own metadata.
func (p *part) uint(key string) (uint64, error) {
	for i := range p.kvs {
		if p.kvs[i].Key == key {
			f := File{Path: p.path, Order: p.order, parts: []*part{p}}
			return f.uintOf(&p.kvs[i])
		}
	}
	return 0, fmt.Errorf("%s: %w %q", p.path, errNoKey, key)
}
