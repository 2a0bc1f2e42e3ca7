package evals

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode/utf8"
)

// TrimBOM takes the byte order mark away that some editors put in front of a text in UTF-8.
func TrimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\ufeff")) }

// ReadText reads a file of plain text. The text's name is the file's.
func ReadText(path string) (Text, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Text{}, err
	}
	if !utf8.Valid(b) {
		return Text{}, fmt.Errorf("%s is not plain text in utf-8; convert it first", path)
	}
	b = TrimBOM(b)
	if strings.TrimSpace(string(b)) == "" {
		return Text{}, fmt.Errorf("%s is empty; give a longer text", path)
	}
	return Text{Name: filepath.Base(path), Body: string(b)}, nil
}

// UnmarshalJSON is json.Unmarshal for files that people give: an error names the field, what it is
// and what is wanted.
func UnmarshalJSON(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong):
		where := "it"
		if wrong.Field != "" {
			where = fmt.Sprintf("%q", wrong.Field)
		}
		is, _, _ := strings.Cut(wrong.Value, " ")
		return fmt.Errorf("%s is %s; want %s", where, inWords[is], wanted(wrong.Type))
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON: %w (byte %d)", err, syntax.Offset)
	}
	return err
}

// inWords are the kinds of JSON's values.
var inWords = map[string]string{
	"string": "a text", "number": "a number", "bool": "true or false", "array": "a list",
	"object": "an object",
}

// wanted is what a Go type is read from.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// ReadTexts reads the files of a flag, which errors name.
func ReadTexts(flag string, paths []string) ([]Text, error) {
	var texts []Text
	for _, path := range paths {
		t, err := ReadText(path)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		texts = append(texts, t)
	}
	return texts, nil
}
