// The collector as a Go programmer would build it: net/http, franz-go, acks=all, HS256, the same answer and the same
// records as ingest. It lacks what the comparison does not ask for: limits, sites, spool, rejections, metrics.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

// Wire is a click as a client sends it.
type Wire struct {
	ClickID   string `json:"click_id"`
	Action    string `json:"action"`
	MemberID  string `json:"member_id"`
	CreatorID string `json:"creator_id"`
	Thing     string `json:"thing"`
	SiteID    string `json:"site_id"`
}

// Click is one line of a block, in the order of fields in which ingest writes it.
type Click struct {
	V          int    `json:"v"`
	ClickID    string `json:"click_id"`
	Action     string `json:"action"`
	MemberID   string `json:"member_id"`
	CreatorID  string `json:"creator_id"`
	Thing      string `json:"thing"`
	ThingID    string `json:"thing_id"`
	SiteID     string `json:"site_id"`
	ClickedAt  int64  `json:"clicked_at"`
	ReceivedAt int64  `json:"received_at"`
}

// Receipt is where a click stands in the log.
type Receipt struct {
	Item      int    `json:"item"`
	ClickID   string `json:"click_id"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Index     int    `json:"index"`
}

// Answer is the body of a 202.
type Answer struct {
	Receipts []Receipt `json:"receipts"`
	Refused  []string  `json:"refused"`
}

const bodyMaxBytes = 512 * 1024

type server struct {
	tokens *tokens
	things *things
	lanes  []*lane
}

func (s *server) take(response http.ResponseWriter, request *http.Request) {
	member, err := s.tokens.member(strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		http.Error(response, `{"reason":"token_invalid"}`, http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, bodyMaxBytes))
	if err != nil {
		http.Error(response, `{"reason":"body_too_large"}`, http.StatusRequestEntityTooLarge)
		return
	}
	line, clickID, reason := s.line(body, member)
	if reason != "" {
		http.Error(response, `{"reason":"`+reason+`"}`, http.StatusUnprocessableEntity)
		return
	}
	lane := s.lanes[partition(member, len(s.lanes))]
	place, err := lane.send(line)
	if err != nil {
		http.Error(response, `{"reason":"broker_unavailable"}`, http.StatusServiceUnavailable)
		return
	}
	answer, _ := json.Marshal(Answer{[]Receipt{{0, clickID, lane.number, place.offset, place.index}}, []string{}})
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(http.StatusAccepted)
	_, _ = response.Write(answer)
}

// line is the click as it goes to Kafka, or the reason why it is none.
func (s *server) line(body []byte, member string) ([]byte, string, string) {
	var sent Wire
	if err := json.Unmarshal(body, &sent); err != nil {
		return nil, "", "json_malformed"
	}
	if sent.MemberID != "" && sent.MemberID != member {
		return nil, "", "member_mismatch"
	}
	if !isIdentifier(sent.CreatorID) || !isUUID(sent.ClickID) || sent.Thing == "" || len(sent.Thing) > 2048 {
		return nil, "", "field_value"
	}
	if sent.Action == "" {
		sent.Action = "flattr"
	}
	name, err := s.things.name(sent.CreatorID, sent.Thing)
	if err != nil {
		return nil, "", "field_value"
	}
	now := time.Now().UnixMilli()
	line, err := json.Marshal(Click{
		1, sent.ClickID, sent.Action, member, sent.CreatorID, sent.Thing, name, sent.SiteID, now, now,
	})
	if err != nil {
		return nil, "", "field_value"
	}
	return line, sent.ClickID, ""
}

func main() {
	address := flag.String("listen", "127.0.0.1:8001", "HOST:PORT")
	broker := flag.String("broker", "127.0.0.1:9092", "HOST:PORT of Kafka")
	topic := flag.String("topic", "clicks", "Kafka topic")
	keys := flag.String("keys", "", "file of token keys")
	idempotent := flag.Bool("idempotent", true, "off only for the embedded broker, which has no such producer")
	flag.Parse()
	tokens, err := readTokens(*keys)
	if err != nil {
		log.Fatal(err)
	}
	lanes, err := openLanes(*broker, *topic, *idempotent)
	if err != nil {
		log.Fatal(err)
	}
	s := &server{tokens, &things{}, lanes}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/clicks", s.take)
	log.SetOutput(os.Stderr)
	log.Fatal((&http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
}
