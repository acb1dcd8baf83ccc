#include "engine/job_pool.hpp"

#include <array>

#include "engine/rows_reply.hpp"
#include "engine/rows_sink.hpp"

namespace penstock::dataplane {

bool decode_body(Encoding encoding, std::string_view body, const QueryNames& names, RowResolver& resolver,
                 Problem& problem) {
  switch (encoding) {
    case Encoding::kJson:
      return decode_json(body, names, resolver, problem);
    case Encoding::kMsgpack:
      return decode_msgpack(body, names, resolver, problem);
    case Encoding::kRaw:
      break;
  }
  return decode_raw(body, names, resolver, problem);
}

RowTarget TableResolver::resolve(std::string_view model, std::string_view version, Problem& problem) {
  entry_ = known_ != nullptr ? known_ : table_.find(model, version, problem);
  if (entry_ == nullptr) return {};
  set_record(entry_->record.get());
  const ModelSchema& schema = entry_->ring.schema();
  if (entry_->ring.uses_arena()) {
    const std::optional<std::uint32_t> slot = entry_->ring.acquire_slot(row_class_);
    if (!slot.has_value()) {
      problem.set(ProblemCode::kQueueFull, "the queue of model '%s' is full", entry_->model.c_str());
      return {};
    }
    slot_ = *slot;
    return {&schema, entry_->ring.slot(slot_)};
  }
  if (row_ == nullptr) {
    owned_row_ = std::make_unique<std::byte[]>(schema.inputs.bytes());
    row_ = owned_row_.get();
  }
  return {&schema, row_};
}

void JobPool::start(std::uint32_t threads) {
  for (std::uint32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

void JobPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  available_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void JobPool::submit(std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
  }
  available_.notify_one();
}

namespace {

void decode(Job& job) {
  TableResolver resolver(*job.table, nullptr, job.row_class);
  if (decode_body(job.encoding, job.body, {job.model, job.version}, resolver, job.problem)) {
    job.entry = resolver.entry();
    job.slot = resolver.slot();
    job.row = resolver.take_owned_row();
    job.length = resolver.length();
  } else {
    resolver.discard();
    job.faults = resolver.take_faults();
  }
  job.block.reset();  // here: giving back megabytes takes a millisecond that the loop does not have
}

void encode(Job& job) {
  const std::size_t count = job.entry->ring.schema().outputs.size();
  std::vector<const std::byte*> outputs(count);
  for (std::size_t i = 0; i < count; ++i) outputs[i] = job.entry->ring.output(job.done, job.done_row, i);
  if (job.entry->encoder.has_texts() && !job.entry->encoder.check_texts(job.encoding, outputs, job.length, job.problem))
    return;
  job.reply_bytes =
      job.entry->encoder.encode(job.encoding, outputs, job.output, job.reply.data() + job.reply_offset, job.length);
}

void decode_rows(Job& job) {
  const RowsBody body{job.encoding, job.body, job.header_bytes, {job.model, job.version}};
  if (decode_rows(body, *job.table, *job.pool, *job.rejoin, job.problem) && job.rejoin->refers_to(job.body)) {
    job.rejoin->body = std::move(job.block);
  }
  job.block.reset();  // here, as above
}

void encode_rows(Job& job) {
  const InferReplySize size = write_rows_reply(*job.rejoin, job.encoding, job.reply.data() + job.reply_offset);
  job.reply_bytes = size.bytes;
  job.header_bytes = size.header_bytes;
}

void inflate(Job& job, CodingTools& tools) {
  Inflated inflated;
  if (inflate_request(tools.decompressor, job.coding, {job.block.data(), job.head_bytes}, job.body, job.bytes_max,
                      *job.pool, inflated, job.problem)) {
    job.reply = std::move(inflated.block);
    job.reply_bytes = inflated.bytes;
  }
  job.block.reset();
}

void compress(Job& job, CodingTools& tools) {
  Block compressed = job.pool->try_acquire(job.reply_bytes);
  if (!compressed) return;  // then it is sent as it is
  const std::size_t bytes =
      compress_reply(tools.compressor, job.coding, {job.reply.data() + job.reply_offset, job.reply_bytes},
                     static_cast<std::size_t>(job.bytes_max), compressed.data());
  if (bytes == 0) return;
  job.reply = std::move(compressed);
  job.reply_offset = 0;
  job.reply_bytes = bytes;
}

}  // namespace

void JobPool::work() {
  CodingTools tools;
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      available_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    switch (job->kind) {
      case Job::Kind::kDecode:
        decode(*job);
        break;
      case Job::Kind::kEncode:
        encode(*job);
        break;
      case Job::Kind::kDecodeRows:
        decode_rows(*job);
        break;
      case Job::Kind::kEncodeRows:
        encode_rows(*job);
        break;
      case Job::Kind::kInflate:
        inflate(*job, tools);
        break;
      case Job::Kind::kCompress:
        compress(*job, tools);
        break;
      case Job::Kind::kShared:
      case Job::Kind::kStored:
        break;  // done already: it goes from loop to loop
    }
    JobInbox& inbox = *job->inbox;
    inbox.post(std::move(job));
  }
}

}  // namespace penstock::dataplane
