"""Operations on tensors: each with a plain reference that defines it and faster implementations that agree with it."""
