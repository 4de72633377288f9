package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// place is where a click stands in its partition.
type place struct {
	offset int64
	index  int
	err    error
}

// lane gathers the clicks of one partition into blocks: one is under way, what arrives meanwhile is the next.
type lane struct {
	client *kgo.Client
	number int32

	mutex    sync.Mutex
	lines    [][]byte
	waiting  []chan place
	underway bool
}

// Below Kafka's default limit of 1,048,588 bytes, as in ingest.
const blockMaxBytes = 900_000

func openLanes(broker, topic string, idempotent bool) ([]*lane, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),                             // a block is a batch already
		kgo.ProducerBatchCompression(kgo.NoCompression()), // as ingest
		kgo.RecordDeliveryTimeout(5 * time.Second),
	}
	if !idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	request := kmsg.NewMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	request.Topics = append(request.Topics, asked)
	answer, err := request.RequestWith(context.Background(), client)
	if err != nil {
		return nil, err
	}
	count := len(answer.Topics[0].Partitions)
	if count == 0 {
		return nil, fmt.Errorf("there is no topic %s", topic)
	}
	lanes := make([]*lane, count)
	for number := range lanes {
		lanes[number] = &lane{client: client, number: int32(number)}
	}
	return lanes, nil
}

// send returns once every in-sync replica has the line.
func (l *lane) send(line []byte) (place, error) {
	answer := make(chan place, 1)
	l.mutex.Lock()
	l.lines = append(l.lines, line)
	l.waiting = append(l.waiting, answer)
	if !l.underway {
		l.underway = true
		l.next()
	}
	l.mutex.Unlock()
	placed := <-answer
	return placed, placed.err
}

// next sends what waits, as much as fits into one record. The caller holds the mutex.
func (l *lane) next() {
	count, length := 0, 0
	for count < len(l.lines) && (count == 0 || length+len(l.lines[count])+1 <= blockMaxBytes) {
		length += len(l.lines[count]) + 1
		count++
	}
	value, block := bytes.Join(l.lines[:count], []byte("\n")), l.waiting[:count]
	l.lines, l.waiting = l.lines[count:], l.waiting[count:]
	record := &kgo.Record{Value: value, Partition: l.number}
	l.client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
		for index, answer := range block {
			answer <- place{record.Offset, index, err}
		}
		l.mutex.Lock()
		defer l.mutex.Unlock()
		if l.underway = len(l.lines) > 0; l.underway {
			l.next()
		}
	})
}
