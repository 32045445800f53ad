// Package seal keeps secrets at rest: monitor configs, channel configs and
// whatever else the database must hold and a stolen copy of it must not give away.
//
// A sealed value is AES-256-GCM with a random nonce, bound to the table, column
// and row it belongs to, so that a value moved to another row does not open. The
// key lives outside the database. Losing it loses the sealed values, not the
// history.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KeySize is the length of a key in bytes (AES-256).
const KeySize = 32

// ErrKey says that a value was sealed with another key.
var ErrKey = errors.New("sealed with another key: start with the key file or VEDETTE_KEY that this database was made with")

// Sealer seals and opens with one key. It is safe for concurrent use.
type Sealer struct {
	aead cipher.AEAD
	id   string // the first characters of the key's hash, stored before each value
}

// New makes a Sealer. The key has KeySize bytes.
func New(key []byte) (*Sealer, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("the sealing key has %d bytes, and needs %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	return &Sealer{aead: aead, id: hex.EncodeToString(sum[:4])}, nil
}

// Seal encrypts plain for one column of one row.
func (s *Sealer) Seal(plain []byte, table, column string, id int64) string {
	sealed := s.aead.Seal(nil, nil, plain, place(table, column, id))
	return s.id + ":" + base64.RawStdEncoding.EncodeToString(sealed)
}

// Open decrypts what Seal made for the same place. ErrKey when the key differs.
func (s *Sealer) Open(sealed, table, column string, id int64) ([]byte, error) {
	keyID, text, ok := strings.Cut(sealed, ":")
	if !ok {
		return nil, fmt.Errorf("%s.%s of row %d is not a sealed value", table, column, id)
	}
	if keyID != s.id {
		return nil, fmt.Errorf("%s.%s of row %d: %w", table, column, id, ErrKey)
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s.%s of row %d: %w", table, column, id, err)
	}
	plain, err := s.aead.Open(nil, nil, b, place(table, column, id))
	if err != nil {
		return nil, fmt.Errorf("%s.%s of row %d was altered or moved: %w", table, column, id, err)
	}
	return plain, nil
}

// place is the additional data that binds a value to where it belongs.
func place(table, column string, id int64) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", table, column, id)
}

// LoadOrCreateKey reads the key in file (base64), or makes one there with mode
// 0600. Two processes that begin at once end up with the same key.
func LoadOrCreateKey(file string) ([]byte, error) {
	for {
		b, err := os.ReadFile(file)
		if err == nil {
			return parseKey(file, b)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := createKey(file); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
}

func parseKey(file string, b []byte) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("%s does not hold %d bytes in base64", file, KeySize)
	}
	return key, nil
}

// createKey writes a random key beside file and links it into place, so that
// nobody ever reads half of one. os.ErrExist when another was quicker.
func createKey(file string) error {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key)                                   // never fails (crypto/rand)
	tmp, err := os.CreateTemp(filepath.Dir(file), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Link(tmp.Name(), file)
}
