// Package defaultmodel carries the default model and its held-out texts inside the program, so that the whole path of
// LongRoPE can be shown on any machine, offline.
//
// The model is a llama of 4 million parameters with an original context length of 256 tokens. train.py made it, from
// text in the public domain; README.md is its model card. The search texts are for searching factors, the test texts
// for measuring them; the model was trained on neither.
package defaultmodel

import (
	"embed"
	"fmt"
)

const (
	// ContextLength is the original context length L, in tokens.
	ContextLength = 256
	// Template is the prompt template to create the model with in the host: the model continues text, it does not chat.
	Template = "{{ .Prompt }}"
)

// Model is the model file, GGUF in float16. It must not be written to.
//
//go:embed model.gguf
var Model []byte

// Notice says where the texts come from and why they are free to use.
//
//go:embed texts/NOTICE
var Notice string

//go:embed texts/*.txt
var texts embed.FS

// Text is a document: its name, for tables, and what it says. It converts to evals.Text.
type Text struct {
	Name string
	Body string
}

// SearchTexts are the texts to search factors on.
func SearchTexts() []Text { return read("ezekiel", "opticks-3") }

// TestTexts are the texts to measure on; no text is in both.
func TestTexts() []Text { return read("isaiah", "acts", "opticks-4") }

func read(names ...string) []Text {
	docs := make([]Text, len(names))
	for i, name := range names {
		body, err := texts.ReadFile("texts/" + name + ".txt")
		if err != nil {
			panic(fmt.Sprintf("defaultmodel: %v", err)) // embedded when compiled: only a wrong name above gets here
		}
		docs[i] = Text{Name: name, Body: string(body)}
	}
	return docs
}
