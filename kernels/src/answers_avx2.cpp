// Answers: the AVX2 lane, four rows at a time. Compiled with -mavx2 and entered only after lane.cpp has asked.
#include "answers_block.hpp"

namespace penstock::avx2 {
namespace {

constexpr unsigned kWidth = 4;

#include "answers_vector.inl"

}  // namespace

const AnswerFunctions kAnswers{softmax, sigmoid, platt, normalize, rank};

}  // namespace penstock::avx2
