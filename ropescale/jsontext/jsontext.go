// Package jsontext says about a JSON text that a person wrote what encoding/json does not: a key
// that occurs twice, and a wrong type without the names of Go's types.
package jsontext

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// NoKeyTwice is an error for a JSON text with an object that has a key twice, of which
// encoding/json silently takes the last.
func NoKeyTwice(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	var open []map[string]bool // the objects around; nil for an array
	key := false               // the next string is a key
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case json.Delim:
			switch token {
			case '{':
				open = append(open, make(map[string]bool))
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
		case string:
			if key {
				if keys := open[len(open)-1]; keys[token] {
					line := 1 + bytes.Count(b[:d.InputOffset()], []byte("\n"))
					return fmt.Errorf("line %d: the key %q occurs twice in its object", line, token)
				}
				open[len(open)-1][token] = true
				key = false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}

// Plain says an error of encoding/json without the names of Go's types.
func Plain(err error) error {
	var typed *json.UnmarshalTypeError
	if !errors.As(err, &typed) {
		return err
	}
	want := "a number"
	switch typed.Type.Kind() {
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Slice, reflect.Array:
		want = "an array"
	case reflect.Struct, reflect.Map:
		want = "an object"
	case reflect.Int, reflect.Uint32, reflect.Uint64:
		want = "a whole number"
	}
	// what there is, such as "number 2.5" or "string"
	where := ""
	if typed.Field != "" {
		where = typed.Field + ": "
	}
	return fmt.Errorf("%s%s, where %s is wanted", where, typed.Value, want)
}
