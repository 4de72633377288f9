package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/blake2b"
)

// cache is a bounded map from strings, emptied when it is full. Ingest remembers verified tokens and names, too.
type cache[V any] struct {
	entries sync.Map
	size    atomic.Int64
}

const cacheMax = 65_536

func (c *cache[V]) get(key string) (V, bool) {
	if found, ok := c.entries.Load(key); ok {
		return found.(V), true
	}
	var nothing V
	return nothing, false
}

func (c *cache[V]) put(key string, value V) {
	if c.size.Add(1) > cacheMax {
		c.entries.Clear()
		c.size.Store(1)
	}
	c.entries.Store(key, value)
}

type member struct {
	id      string
	expires time.Time
}

type tokens struct {
	keys  map[string][]byte
	cache cache[member]
}

// readTokens reads the secrets of a key file: key id -> JWK with alg HS256.
func readTokens(path string) (*tokens, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries map[string]struct {
		K string `json:"k"`
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, err
	}
	keys := map[string][]byte{}
	for id, entry := range entries {
		if keys[id], err = base64.RawURLEncoding.DecodeString(entry.K); err != nil {
			return nil, err
		}
	}
	return &tokens{keys: keys}, nil
}

func (t *tokens) member(token string) (string, error) {
	if found, ok := t.cache.get(token); ok {
		if time.Now().After(found.expires) {
			return "", errors.New("expired")
		}
		return found.id, nil
	}
	claims := jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(token, &claims, func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		if key, ok := t.keys[kid]; ok {
			return key, nil
		}
		return nil, errors.New("unknown key")
	}, jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience("flattr"), jwt.WithExpirationRequired())
	if err != nil {
		return "", err
	}
	if !isIdentifier(claims.Subject) {
		return "", errors.New("no member")
	}
	t.cache.put(token, member{claims.Subject, claims.ExpiresAt.Time})
	return claims.Subject, nil
}

type things struct {
	cache cache[string]
}

// name is a thing's 128-bit name. Of the rules for canonical addresses it knows what the bench sends: the order of
// the query and the fragment.
func (t *things) name(creator, thing string) (string, error) {
	text := creator + "\x00" + thing
	if found, ok := t.cache.get(text); ok {
		return found, nil
	}
	address, err := url.Parse(thing)
	if err != nil {
		return "", err
	}
	if address.Scheme == "http" || address.Scheme == "https" {
		address.RawQuery = address.Query().Encode()
		address.Fragment = ""
		if address.Path == "" {
			address.Path = "/"
		}
		thing = address.String()
	}
	hash, err := blake2b.New(16, nil)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(hash, "%s\x00%s", creator, thing)
	name := hex.EncodeToString(hash.Sum(nil))
	t.cache.put(text, name)
	return name, nil
}

func isIdentifier(text string) bool {
	for _, char := range []byte(text) {
		if char <= ' ' || char > '~' {
			return false
		}
	}
	return len(text) > 0 && len(text) <= 64
}

func isUUID(text string) bool {
	for index, char := range []byte(text) {
		if index == 8 || index == 13 || index == 18 || index == 23 {
			if char != '-' {
				return false
			}
		} else if !('0' <= char && char <= '9' || 'a' <= char && char <= 'f') {
			return false
		}
	}
	return len(text) == 36
}

// partition is Kafka's: murmur2 of the key, without its sign.
func partition(key string, partitions int) int {
	const m = 0x5bd1e995
	data := []byte(key)
	hash := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		hash = hash*m ^ k*m
	}
	switch len(data) {
	case 3:
		hash ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		hash ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		hash ^= uint32(data[0])
		hash *= m
	}
	hash ^= hash >> 13
	hash *= m
	hash ^= hash >> 15
	return int(hash&0x7fffffff) % partitions
}
