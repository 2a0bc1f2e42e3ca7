// Package defaultmodel carries the default model and its held-out texts inside the program, so that
// the whole path of LongRoPE can be shown on any machine, offline.
//
// The model is a llama of 4 million parameters with an original context length of 256 tokens.
// train.py made it, from text in the public domain; README.md is its model card. The search texts
// are for searching factors, the test texts for measuring them; the model was trained on neither.
package defaultmodel

import (
	"compress/bzip2"
	"embed"
	"fmt"
	"io"
	"sync"
)

const (
	// ContextLength is the original context length L, in tokens.
	ContextLength = 256
	// Template is the prompt template to create the model with in the host: the model continues
	// text, it does not chat.
	Template = "{{ .Prompt }}"
)

// Model is the model file, GGUF in float16. It must not be written to.
//
//go:embed model.gguf
var Model []byte

// notice says where the texts come from and why they are free to use.
//
//go:embed texts/NOTICE
var notice string

//go:embed texts/*.txt
var texts embed.FS

//go:embed texts/*.txt.bz2
var longTexts embed.FS

// Text is a document: its name, for tables, and what it says. It converts to evals.Text.
type Text struct {
	Name string
	Body string
}

// SearchTexts are the texts to search factors on.
func SearchTexts() []Text { return read("ezekiel", "opticks-3") }

// TestTexts are the texts to measure on; no text is in both.
func TestTexts() []Text { return read("isaiah", "acts", "opticks-4") }

// LongSearchText and LongTestText are for lengths that the texts above do not reach: the rest of
// the Bible in two, 0.6 and 0.2 million tokens for most models. The default model was trained on
// both.
func LongSearchText() Text { return oldTestament() }

// LongTestText is to LongSearchText what TestTexts are to SearchTexts.
func LongTestText() Text { return newTestament() }

var (
	oldTestament = sync.OnceValue(func() Text { return readLong("old-testament") })
	newTestament = sync.OnceValue(func() Text { return readLong("new-testament") })
)

func readLong(name string) Text {
	f, err := longTexts.Open("texts/" + name + ".txt.bz2")
	if err == nil {
		defer f.Close()
		var body []byte
		if body, err = io.ReadAll(bzip2.NewReader(f)); err == nil {
			return Text{Name: name, Body: string(body)}
		}
	}
	panic(fmt.Sprintf("defaultmodel: %v", err)) // embedded when compiled
}

func read(names ...string) []Text {
	docs := make([]Text, len(names))
	for i, name := range names {
		body, err := texts.ReadFile("texts/" + name + ".txt")
		if err != nil {
			// embedded when compiled: only a wrong name above gets here
			panic(fmt.Sprintf("defaultmodel: %v", err))
		}
		docs[i] = Text{Name: name, Body: string(body)}
	}
	return docs
}
