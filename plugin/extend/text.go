package extend

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search"
)

// document is one line of a .jsonl file: {"text": "…"} or {"tokens": […]}, and what else it has.
type document = map[string]json.RawMessage

// tokenize writes the training text in the tokens of the engine: a GGUF's own tokenizer, which
// Python does not have.
func (x *extension) tokenize(ctx context.Context, path string) (json.RawMessage, error) {
	l, err := x.o.Load(ctx, x.o.Model.Path, x.o.Model.Info.OriginalContextLength)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	started, documents, tokens := x.o.Now(), 0, 0
	err = atomicfile.Write(path, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		for i, name := range x.o.Texts {
			x.report.Progress(search.Progress{
				Started: started, Label: "tokenizing",
				Done: float64(i), Total: float64(len(x.o.Texts)), Note: name,
			})
			err := eachDocument(name, func(where string, d document) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				documents++
				n, err := tokenizeDocument(l.Engine, where, d)
				tokens += n
				if err != nil {
					return err
				}
				line, err := json.Marshal(d)
				if err != nil {
					return err
				}
				_, err = out.Write(append(line, '\n'))
				return err
			})
			if err != nil {
				return x.o.Called.Wrong("Texts", ": %w", err)
			}
		}
		return out.Flush()
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]int{"documents": documents, "tokenized": tokens})
}

// tokenizeDocument puts tokens in the place of a document's text, and returns how many they are.
func tokenizeDocument(e search.Engine, where string, d document) (tokens int, err error) {
	if _, ok := d["tokens"]; ok {
		return 0, nil
	}
	var text string
	if err := json.Unmarshal(d["text"], &text); err != nil {
		return 0, fmt.Errorf(`%s: neither "text" nor "tokens"; give {"text": "…"} in each line`,
			where)
	}
	ids, err := e.Tokenize(text, true)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", where, err)
	}
	delete(d, "text")
	d["tokens"], err = json.Marshal(ids)
	return len(ids), err
}

// textFiles puts the .txt and .jsonl files of a folder, in the order of their names, in its place.
func textFiles(paths []string, called search.Names) ([]string, error) {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			files = append(files, path) // an error of a file is found where it is read
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, called.Wrong("Texts", ": %w", err)
		}
		before := len(files)
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".txt" || ext == ".jsonl" {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == before {
			return nil, called.Wrong("Texts", ": there is no .txt or .jsonl file in %s", path)
		}
	}
	return files, nil
}

// eachDocument calls do for the document of a text file, or for each of a .jsonl file; where names
// it.
func eachDocument(path string, do func(where string, d document) error) error {
	if filepath.Ext(path) != ".jsonl" {
		text, err := evals.ReadText(path)
		if err != nil {
			return err
		}
		body, err := json.Marshal(text.Body)
		if err != nil {
			return err
		}
		return do(path, document{"text": body})
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	for n := 1; ; n++ {
		where := fmt.Sprintf("%s, document %d", path, n)
		var d document
		if err := dec.Decode(&d); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf(`%s: %w; give {"text": "…"} in each line`, where, err)
		}
		if err := do(where, d); err != nil {
			return err
		}
	}
}
